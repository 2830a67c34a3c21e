"""cbus-agent --check: what a deployment asks before an operator finds out; every fault, with its line where there are lines."""
import os
import pathlib
import subprocess
import tempfile

import pytest
from stack import BUILD

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only an agent that root starts becomes other users")


@pytest.fixture
def place():
    """A directory with a key and an authorized-keys file that are in order."""
    with tempfile.TemporaryDirectory(prefix="cbus-check-") as directory:
        path = pathlib.Path(directory)
        path.chmod(0o755)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / "key"], check=True)
        (path / "authorized_keys").write_text((path / "key.pub").read_text())
        (path / "authorized_keys").chmod(0o600)
        yield path


def run(place, config, *options):
    file = place / "agent.conf"
    file.write_text(config)
    file.chmod(0o644)
    return subprocess.run([BUILD / "agent/cbus-agent", "--config", file, "--key", place / "key", "--authorized-keys",
                           place / "authorized_keys", *options], capture_output=True, text=True, timeout=20, check=False,
                          env={"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(place)})


def test_what_is_in_order_is_said_to_be(place):
    done = run(place, "# nothing\n\n[agent]\nnats = nats://user:secret@broker.example:4223,tls://other\n[policy p]\nsee=a.b\n", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    nkey = subprocess.run([BUILD / "cli/cbus", "nkey", "--public-key-file", place / "key.pub"], check=True, capture_output=True,
                          text=True).stdout.strip()
    assert nkey in done.stdout and "1 authorized keys" in done.stdout


@pytest.mark.parametrize("config, words", [
    ("[agent]\nname=a\n\nnatz=x\n", [":4: ", "'natz'"]),
    ("[agent]\nname=a\nname=b\n", [":3: ", "'name'", "line 2"]),
    ("[agent]\nnonsense\n", [":2: ", "NAME=VALUE"]),
    ("[agent]\nname=a\0b\n", ["NUL"]),
    ("name=a\n", [":1: ", "[agent]"]),
    ("[agent]\n[agnet]\n", [":2: ", "[agnet]"]),
])
def test_a_line_of_the_configuration_that_is_none_is_named(place, config, words):
    for options in (["--check"], []):
        done = run(place, config, *options)
        assert done.returncode == 2
        assert done.stderr.startswith(f"cbus-agent: {place}/agent.conf:") and all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("setting, words", [
    ("audit=maybe", ["audit", "maybe"]), ("audit-failure=x", ["audit-failure"]), ("nats=http://u:secret@host", ["http://host"]),
    ("nats=nats://u:secret@host:0", ["host:0", "port"]), ("jwt=/nonexistent", ["/nonexistent", "No such file"]),
    ("creds=/nonexistent", ["/nonexistent"]), ("ca=/nonexistent", ["/nonexistent"]), ("cert=/nonexistent", ["--cert-key"]),
    ("context=nowhere", ["nowhere.json"]), ("default-user=ghost", ["default-user", '"ghost"']), ("name=a b", ["a b"]),
    ("bus=nonsense", ["nonsense"]), ("ca=/dev/null\ncontext=x", ["exclude each other"]),
    pytest.param("network-user=ghost", ['"ghost"'], marks=ROOT_ONLY),
    pytest.param("network-user=root", ["network-user", "must not be root"], marks=ROOT_ONLY),
], ids=str)
def test_a_setting_that_would_keep_the_agent_from_its_work_is_a_fault(place, setting, words):
    done = run(place, f"[agent]\n{setting}\n", "--check")
    assert done.returncode == 1, done
    assert all(word in done.stderr for word in words), done.stderr
    assert "secret" not in done.stderr


@ROOT_ONLY
@pytest.mark.parametrize("setting, words", [("network-user=root", "must not be root"), ("default-user=ghost", '"ghost"')])
def test_an_agent_that_should_be_root_or_nobody_does_not_start(place, setting, words):
    done = run(place, f"[agent]\n{setting}\nnats=nats://127.0.0.1:9\n")
    assert done.returncode == 1 and words in done.stderr, done


@ROOT_ONLY
def test_a_file_that_only_root_can_read_is_a_fault(place):
    """The network process reads it, and that one is not root."""
    jwt = place / "web1.jwt"
    jwt.write_text("a.b.c\n")
    jwt.chmod(0o600)
    done = run(place, f"[agent]\njwt={jwt}\n", "--check")
    assert done.returncode == 1 and str(jwt) in done.stderr and "Permission denied" in done.stderr, done
    jwt.chmod(0o644)
    done = run(place, f"[agent]\njwt={jwt}\n", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_key_behind_a_passphrase_is_refused_with_the_way_out(place):
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", place / "key"], check=True)
    for options in (["--check"], []):
        done = run(place, "[agent]\nnats=nats://127.0.0.1:9\n", *options)
        assert done.returncode == 1 and "passphrase" in done.stderr and "ssh-agent:" in done.stderr, done


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused(place, mode):
    (place / "key").chmod(mode)
    for options in (["--check"], []):
        done = run(place, "[agent]\nnats=nats://127.0.0.1:9\n", *options)
        assert done.returncode == 1 and "chmod 600" in done.stderr, done


def test_all_faults_are_told_and_not_the_first_alone(place):
    key = (place / "key.pub").read_text()
    (place / "authorized_keys").write_text(f"# x\nno-pty {key}policy=\"gone\" {key}user=\"ghost\" {key}ssh-rsa AAAA\n")
    (place / "key").chmod(0o644)
    done = run(place, "[agent]\naudit=maybe\njwt=/nonexistent\n[policy p]\nsee=no name\n[policy q]\n\ntalk=:1.2\n", "--check")
    assert done.returncode == 1
    for word in (f"{place}/key", "chmod 600", "maybe", "/nonexistent", f"{place}/agent.conf:5: ", f"{place}/agent.conf:8: ",
                 *(f"{place}/authorized_keys:{line}: line refused: " for line in (2, 3, 4, 5))):
        assert word in done.stderr, (word, done.stderr)
