"""cbus keyscan against a real sshd on loopback."""
import json
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from stack import wait_for
from test_cli_offline import CBUS, Key, cbus

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sshd:
    def __init__(self, directory, *keys):
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # where sshd wants its empty directory to be
        self.port = free_port()
        config = directory / "sshd_config"
        config.write_text("ListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n" +
                          "".join(f"HostKey {key}\n" for key in keys))
        self.log = directory / "sshd.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", config, "-p", str(self.port)], stderr=log)
        wait_for(self.listening, "sshd to listen")

    def listening(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def sshd(key, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sshd")
    rsa = directory / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", rsa], check=True)
    running = Sshd(directory, key.private, rsa)
    yield running
    running.end()


def keyscan(sshd, *words, **kwargs):
    return cbus("keyscan", "--port", str(sshd.port), *words, **kwargs)


def test_one_host_prints_the_nkey_alone_and_the_fingerprint_beside(sshd, key):
    result = keyscan(sshd, "127.0.0.1")
    assert result.returncode == 0
    assert result.stdout == f"{key.nkey}\n"
    shown = subprocess.run(["ssh-keygen", "-l", "-f", key.public], check=True, capture_output=True, text=True).stdout
    assert result.stderr == f"{' '.join(shown.split()[:2])} 127.0.0.1 (ED25519)\n"


def test_several_hosts_are_named_in_their_order(sshd, key):
    result = keyscan(sshd, "localhost", "127.0.0.1", "LocalHost")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [f"{host} {key.nkey}" for host in ("localhost", "127.0.0.1", "LocalHost")]


def test_failed_host_stops_no_other(sshd, key):
    result = keyscan(sshd, "no-such-host.invalid", "127.0.0.1", "127.0.0.77")
    assert result.returncode == 1
    assert result.stdout == f"127.0.0.1 {key.nkey}\n"
    for host in ("no-such-host.invalid", "127.0.0.77"):
        assert f"cbus: {host}: no ed25519 host key" in result.stderr


def test_hosts_come_from_standard_input_too(sshd, key):
    result = keyscan(sshd, "--stdin", "localhost", text="\n# the fleet\n 127.0.0.1  # web1\n\n")
    assert result.returncode == 0
    assert result.stdout == f"localhost {key.nkey}\n127.0.0.1 {key.nkey}\n"
    assert keyscan(sshd, "--stdin", text="127.0.0.1\n").stdout == f"{key.nkey}\n"


def test_json_has_a_row_a_host(sshd, key):
    result = keyscan(sshd, "--json", "127.0.0.1", "127.0.0.77")
    assert result.returncode == 1
    good, bad = json.loads(result.stdout)
    assert (good["host"], good["ok"], good["nkey"]) == ("127.0.0.1", True, key.nkey)
    assert good["fingerprint"].startswith("SHA256:")
    assert (bad["host"], bad["ok"]) == ("127.0.0.77", False)
    assert "no ed25519 host key" in bad["error"]


def test_host_without_an_ed25519_key_fails(tmp_path):
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", rsa], check=True)
    running = Sshd(tmp_path, rsa)
    try:
        result = keyscan(running, "127.0.0.1")
    finally:
        running.end()
    assert (result.returncode, result.stdout) == (1, "")
    assert "no ed25519 host key" in result.stderr


@pytest.mark.parametrize("words", [[], ["a b"], [""], ["--", "-oProxyCommand=true"], ["a,b"], ["10.0.0.0/8"], ["x\ny"],
                                   ["x" * 256], ["--port", "0", "x"], ["--port", "65536", "x"], ["--port", "ssh", "x"],
                                   ["--unknown", "x"]])
def test_usage_errors(words):
    result = cbus("keyscan", *words)
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.startswith("cbus: ")


def test_no_host_to_ask():
    result = cbus("keyscan", "--stdin", text="# nobody\n")
    assert (result.returncode, result.stdout) == (3, "")


def fake_keyscan(directory, output):
    """An ssh-keyscan that shows OUTPUT, whatever it is asked."""
    answer = directory / "answer"
    answer.write_bytes(output)
    program = directory / "ssh-keyscan"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\ncat {answer}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.parametrize("output", [
    b"", b"\0\0\0", b"\xff\xfe", b"web1", b"web1 \n", b"web1 ssh-ed25519\n", b"web1 ssh-ed25519 AAAA\n",
    b"web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    b"other ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOWRjB7a4hkrjWyxBJTTbXPFaSHEVEhJCHdDXbbjFDhh\n"])
def test_nonsense_is_no_key(tmp_path, output):
    result = cbus("keyscan", "web1", env=fake_keyscan(tmp_path, output))
    assert (result.returncode, result.stdout) == (1, "")
    assert "cbus: web1: " in result.stderr


def test_missing_keyscan_is_said(tmp_path):
    result = subprocess.run([CBUS, "keyscan", "web1"], capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert (result.returncode, result.stdout) == (1, "")
    assert "ssh-keyscan can not be used" in result.stderr
