"""cbus without a proxy: usage, nkey and trust."""
import base64
import binascii
import os
import pathlib
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CBUS = pathlib.Path(os.environ.get("CBUS_BUILD", ROOT / "build")).resolve() / "cli" / "cbus"


def cbus(*words, text="", env=None):
    return subprocess.run([CBUS, *words], input=text, capture_output=True, text=True, timeout=20,
                          env={**os.environ, **(env or {})})


def nkey_of(raw, role=20):
    """As NATS defines it, independently of wire/: role byte, key, CRC16 (XMODEM) little-endian, base32."""
    body = bytes([role << 3]) + raw
    body += binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body).decode().rstrip("=")


class Key:
    def __init__(self, directory, name="key"):
        self.private = directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "who@where", "-f", self.private],
                       check=True)
        self.public = pathlib.Path(f"{self.private}.pub")
        self.line = self.public.read_text()
        self.base64 = self.line.split()[1]
        self.nkey = nkey_of(base64.b64decode(self.base64)[-32:])


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys")
    return [Key(directory, f"key{i}") for i in range(3)]


# Verbs.


def test_no_verb_is_a_usage_error_that_lists_verbs():
    result = cbus()
    assert result.returncode == 2
    assert result.stdout == ""
    for verb in ("machines", "nkey", "trust"):
        assert f"\n  {verb}" in result.stderr


def test_unknown_verb_is_named_and_verbs_are_listed():
    result = cbus("frobnicate\x1b[2J")
    assert result.returncode == 2
    assert '"frobnicate\\x1b[2J"' in result.stderr
    assert "\n  machines" in result.stderr


def test_help_and_version_succeed():
    assert "\n  trust" in cbus("--help").stdout
    assert cbus("--version").stdout.startswith("cbus ")
    for verb, option in (("machines", "--wait"), ("nkey", "--public-key-file"), ("trust", "--known-machines")):
        result = cbus(verb, "--help")
        assert result.returncode == 0
        assert option in result.stdout and f"cbus {verb}" in result.stdout


@pytest.mark.parametrize("words", [("machines", "--nope"), ("machines", "word"), ("machines", "--wait", "x"),
                                   ("machines", "--wait", "-1"), ("machines", "--timeout", "0"),
                                   ("machines", "--timeout", "nan"), ("nkey", "word"), ("trust",),
                                   ("trust", "one"), ("trust", "one", "two", "three")])
def test_wrong_arguments_are_usage_errors(words):
    result = cbus(*words)
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.startswith("cbus: ")


# nkey.


def test_nkey_of_each_spelling_is_the_same(keys):
    key = keys[0]
    spellings = [key.line, f"ssh-ed25519 {key.base64}", key.base64, key.nkey, f"  {key.nkey}\n"]
    for spelling in spellings:
        for result in (cbus("nkey", text=spelling), cbus("nkey", "--public-key", spelling)):
            assert (result.returncode, result.stdout, result.stderr) == (0, key.nkey + "\n", "")
    assert cbus("nkey", "--public-key-file", key.public).stdout == key.nkey + "\n"
    assert cbus("nkey", "--bus", "system", "--public-key", key.nkey).stdout == key.nkey + "\n"


def test_nkey_refuses_private_keys_with_a_hint(keys):
    for result in (cbus("nkey", text=keys[0].private.read_text()),
                   cbus("nkey", "--public-key-file", keys[0].private)):
        assert result.returncode == 2
        assert result.stdout == ""
        assert "private key" in result.stderr and ".pub" in result.stderr
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"  # published with the nkeys library
    result = cbus("nkey", "--public-key", seed)
    assert result.returncode == 2 and "private" in result.stderr and seed not in result.stderr


def test_nkey_refuses_other_keys_with_a_hint(keys, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "other"], check=True)
    result = cbus("nkey", "--public-key-file", tmp_path / "other.pub")
    assert result.returncode == 2 and "ssh-ed25519" in result.stderr
    raw = base64.b64decode(keys[0].base64)[-32:]
    for text in ("", "nonsense", keys[0].nkey[:-1] + "A", keys[0].nkey[:-1], nkey_of(raw, role=0),
                 keys[0].base64[:-4], nkey_of(bytes(32)), keys[0].line + keys[1].line, "x" * 100_000):
        result = cbus("nkey", text=text)
        assert result.returncode == 2, text
        assert result.stdout == "" and result.stderr.startswith("cbus: ")


def test_nkey_takes_one_source_that_exists(keys, tmp_path):
    assert cbus("nkey", "--public-key", keys[0].nkey, "--public-key-file", keys[0].public).returncode == 2
    result = cbus("nkey", "--public-key-file", tmp_path / "missing")
    assert result.returncode == 2 and "missing" in result.stderr
    assert cbus("nkey", "--public-key-file", tmp_path).returncode == 2


# trust.


@pytest.fixture
def known(tmp_path):
    return tmp_path / "config" / "cbus" / "known_machines"


def trust(known, *words):
    return cbus("trust", *words, env={"XDG_CONFIG_HOME": str(known.parents[1])})


def test_trust_makes_file_and_directory_for_the_owner_alone(keys, known):
    known.parents[1].mkdir()
    result = trust(known, keys[0].nkey, "web1")
    assert result.returncode == 0 and result.stdout == ""
    assert known.read_text() == f"{keys[0].nkey} web1\n"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    assert stat.S_IMODE(known.parent.stat().st_mode) == 0o700
    assert os.listdir(known.parent) == ["known_machines"]


def test_trust_keeps_what_is_there(keys, known):
    known.parent.mkdir(parents=True)
    before = f"# my machines\n\n\t{keys[0].nkey} \t web1  # rack 3\nodd line here and there\n# end, no newline"
    known.write_text(before)
    result = trust(known, keys[1].nkey, "web2")
    assert result.returncode == 0
    assert "line 4" in result.stderr
    assert known.read_text() == before + f"\n{keys[1].nkey} web2\n"


def test_trust_renames_with_a_message(keys, known):
    known.parent.mkdir(parents=True)
    known.write_text(f"# first\n\t{keys[0].nkey} \t web1  # rack 3\n{keys[1].nkey} web2\n")
    result = trust(known, keys[0].nkey, "Mail-1.example")
    assert result.returncode == 0
    assert "web1" in result.stderr and "Mail-1.example" in result.stderr
    assert known.read_text() == f"# first\n\t{keys[0].nkey} \t Mail-1.example  # rack 3\n{keys[1].nkey} web2\n"


def test_trust_again_changes_nothing(keys, known):
    trust(known, keys[0].nkey, "web1")
    before = known.stat()
    result = trust(known, keys[0].nkey, "web1")
    assert result.returncode == 0 and "already" in result.stderr
    assert known.stat().st_ino == before.st_ino


def test_trust_lets_a_machine_change_how_its_own_name_is_written(keys, known):
    trust(known, keys[0].nkey, "web1")
    assert trust(known, keys[0].nkey, "Web-1").returncode == 0
    assert known.read_text() == f"{keys[0].nkey} Web-1\n"


@pytest.mark.parametrize("name", ["web1", "WEB1", "web-1", "we.b1", "webl", "vveb1"])
def test_trust_refuses_names_that_are_or_imitate_another_machines(keys, known, name):
    trust(known, keys[0].nkey, "web1")
    before = known.read_text()
    result = trust(known, keys[1].nkey, name)
    assert result.returncode == 1
    assert "web1" in result.stderr and keys[0].nkey in result.stderr
    assert known.read_text() == before


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-", "a/b", "..", "é", "a\nb", "x" * 65, "UABCD", "a\x1b[m"])
def test_trust_refuses_what_is_no_name(keys, known, name):
    result = trust(known, keys[0].nkey, name)
    assert result.returncode == 2
    assert "\x1b" not in result.stderr
    assert not known.exists()


def test_trust_refuses_what_is_no_nkey(keys, known):
    for word in ("web1", keys[0].nkey[:-1] + "A", keys[0].base64, nkey_of(bytes(32))):
        result = trust(known, word, "web1")
        assert result.returncode == 2 and result.stderr.startswith("cbus: ")
    assert not known.exists()


def test_trust_takes_another_file_and_follows_links(keys, tmp_path):
    real = tmp_path / "real"
    real.write_text("# mine\n")
    link = tmp_path / "link"
    link.symlink_to("real")
    assert cbus("trust", keys[0].nkey, "web1", "--known-machines", link).returncode == 0
    assert link.is_symlink()
    assert real.read_text() == f"# mine\n{keys[0].nkey} web1\n"


def test_trust_says_when_it_can_not_write(keys, tmp_path):
    (tmp_path / "file").write_text("")
    result = cbus("trust", keys[0].nkey, "web1", "--known-machines", tmp_path / "file" / "known_machines")
    assert result.returncode == 1 and "known_machines" in result.stderr


def test_trust_at_the_same_time_loses_none(tmp_path):
    nkeys = []
    for i in range(8):
        # Any ed25519 point: public keys of fixed seeds would do, ssh-keygen makes them without a library.
        nkeys.append(Key(tmp_path, f"many{i}").nkey)
    file = tmp_path / "many"
    running = [subprocess.Popen([CBUS, "trust", nkey, f"m{i}x", "--known-machines", file], stderr=subprocess.DEVNULL)
               for i, nkey in enumerate(nkeys)]
    assert [process.wait(timeout=20) for process in running] == [0] * len(nkeys)
    assert sorted(file.read_text().splitlines()) == sorted(f"{nkey} m{i}x" for i, nkey in enumerate(nkeys))
