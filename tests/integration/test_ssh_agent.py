"""Both daemons with their identities in an ssh-agent, and what the proxy says of keys that it does not take."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from gi.repository import GLib

from stack import BUILD, NatsServer, Program, Stack, is_listening, wait_for


LIST, SIGN = 11, 13  # what an ssh-agent is asked for


class LockedNats(NatsServer):
    """Lets in who signs its nonce with one of the given keys."""

    def __init__(self, directory, nkeys):
        super().__init__(directory)
        self.config = self.directory / "nats.conf"
        users = ", ".join(f"{{nkey: {key}}}" for key in nkeys)
        self.config.write_text(f"authorization {{ users = [{users}] }}\n")

    def start(self):
        self.spawn(["nats-server", "-c", self.config, "-a", "127.0.0.1", "-p", self.port, "--ports_file_dir", self.directory])

        def url():
            assert self.running, self.log()[-1000:]
            for file in self.directory.glob("*.ports"):
                try:
                    return json.loads(file.read_text())["nats"][0]
                except (json.JSONDecodeError, OSError):
                    pass
            return None

        self.port = int(wait_for(url, "nats-server to listen").rsplit(":", 1)[1])
        return self


class SshAgent(Program):
    def __init__(self, directory):
        super().__init__("ssh-agent", directory)
        self.socket = directory / "ssh-agent.socket"
        self.environment = {**os.environ, "SSH_AUTH_SOCK": str(self.socket)}

    def start(self):
        self.spawn(["ssh-agent", "-D", "-a", self.socket])
        wait_for(lambda: is_listening(self.socket), "ssh-agent to listen")
        return self

    def add(self, key):
        subprocess.run(["ssh-add", "-q", key], check=True, env=self.environment)


def nkey(key):
    return subprocess.run([BUILD / "cli/cbus", "nkey", "--public-key-file", f"{key}.pub"], check=True, capture_output=True,
                          text=True).stdout.strip()


class Secretless(Stack):
    """Private keys are in the ssh-agent alone, and NATS asks for them."""

    def _start(self):
        self.texts = {}
        super()._start()

    def _key(self, name):
        file = super()._key(name)
        if not self.texts:
            self.ssh_agent = SshAgent(self.directory).start()
            self.stack.callback(self.ssh_agent.kill)
        self.texts[name] = (file, file.read_bytes())
        file.unlink()
        self.fill(name)
        return file

    def fill(self, name):
        """Gives the ssh-agent a key, and leaves no file of it."""
        file, text = self.texts[name]
        file.touch(mode=0o600)
        file.write_bytes(text)
        self.ssh_agent.add(file)
        file.unlink()

    def start_agent(self, environment=None):
        self.agent.spawn([BUILD / "agent/cbus-agent", "--nats", self.nats.url, "--key", f"ssh-agent:{self.machine_key}.pub",
                          "--authorized-keys", self.authorized, "--bus", self.remote.address, "--name", "remote-host"],
                         env=environment or self.ssh_agent.environment)

    def start_proxy(self, environment=None):
        self.proxy.spawn([BUILD / "proxy/cbus-proxy", "--nats", self.nats.url, "--key", f"ssh-agent:{self.operator_key}.pub",
                          "--bus", self.session.address, "--known-machines", self.known_machines, "--runtime-dir",
                          self.directory / "runtime"], env=environment or self.ssh_agent.environment)


@pytest.fixture
def secretless():
    with Secretless() as running:
        yield running
        running.stop()


def lock_nats(secretless):
    """From here on NATS asks for a signature."""
    secretless.nats.kill()
    shutil.rmtree(secretless.nats.directory)
    port = secretless.nats.port
    secretless.nats = LockedNats(secretless.directory, [nkey(secretless.machine_key), nkey(secretless.operator_key)])
    secretless.nats.port = port
    secretless.stack.callback(secretless.nats.kill)
    secretless.nats.start()
    secretless.wait_online(timeout=30)


def echo(stack, number):
    assert stack.call("Echo", "(v)", GLib.Variant("u", number)) == (number,)


@contextlib.contextmanager
def held(secretless, name, question):
    """The daemon NAME, started anew with an ssh-agent that answers until it is asked QUESTION."""
    program, start = getattr(secretless, name), getattr(secretless, f"start_{name}")
    program.terminate()
    with socket.socket(socket.AF_UNIX) as listener:
        path = secretless.directory / "held.socket"
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        start({**os.environ, "SSH_AUTH_SOCK": str(path)})
        while True:
            daemon, _ = listener.accept()
            asked = daemon.recv(65536)
            if asked[4] == question:
                break
            with daemon, socket.socket(socket.AF_UNIX) as agent:
                agent.connect(str(secretless.ssh_agent.socket))
                agent.sendall(asked)
                daemon.sendall(agent.recv(65536))
        with daemon:
            yield program
    start()
    secretless.wait_online()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["agent", "proxy"])
def test_a_signal_before_the_key_is_there_ends_in_order(secretless, name, number):
    with held(secretless, name, LIST) as program:
        told = len(program.log())
        began = time.monotonic()
        program.process.send_signal(signal.SIGHUP)
        program.process.send_signal(number)
        assert program.process.wait(5) == 0, program.log()[told:]
        assert time.monotonic() - began < 1
        assert program.log()[told:] == ""


@pytest.mark.parametrize("name", ["agent", "proxy"])
def test_a_signal_while_a_nats_login_waits_for_the_ssh_agent_ends_in_order(secretless, name):
    lock_nats(secretless)
    with held(secretless, name, SIGN) as program:
        began = time.monotonic()
        program.process.terminate()
        assert program.process.wait(5) == 0, program.log()
        assert time.monotonic() - began < 1


def test_links_are_made_with_keys_of_an_ssh_agent(secretless):
    echo(secretless, 1)


def test_nats_login_is_signed_by_the_ssh_agent(secretless):
    lock_nats(secretless)
    echo(secretless, 2)


def test_link_outlives_the_ssh_agent_and_a_new_one_waits_for_it(secretless):
    secretless.ssh_agent.kill()
    echo(secretless, 3)
    secretless.agent.kill()
    secretless.wait_state("offline")
    secretless.ssh_agent.socket.unlink()
    secretless.ssh_agent.start()
    secretless.fill("machine")
    secretless.start_agent()
    wait_for(lambda: "our own identity key does not sign" in secretless.property("LastError"), "the reason to be told")
    assert str(secretless.ssh_agent.socket) in secretless.property("LastError")
    secretless.fill("operator")
    secretless.wait_online(timeout=30)
    echo(secretless, 4)


def test_stopped_ssh_agent_blocks_no_call(secretless):
    secretless.ssh_agent.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(20):
            echo(secretless, number)
        assert time.monotonic() - began < 5
    finally:
        secretless.ssh_agent.process.send_signal(signal.SIGCONT)


# What the proxy takes for its identity. None of these gets as far as to a bus.


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="cbus-") as directory:  # a short path, as sockets need it
        path = pathlib.Path(directory)
        (path / ".ssh").mkdir(mode=0o700)
        yield path


def make_key(file, passphrase="", kind="ed25519"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", file], check=True)
    return file


def proxy(home, *words, **environment):
    """Runs cbus-proxy until it ends, which it does because there is no such bus; returns what it said."""
    done = subprocess.run([BUILD / "proxy/cbus-proxy", "--bus", "unix:path=/nonexistent", "--runtime-dir", home / "runtime",
                           "--nats", "nats://127.0.0.1:9", *words],
                          env={"PATH": os.environ["PATH"], "HOME": str(home), **environment}, capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 1, done
    return done.stderr


def was_loaded(said):
    return "can not be used" not in said and "nonexistent" in said


def test_default_is_the_key_file_in_the_home(home):
    make_key(home / ".ssh/id_ed25519")
    assert was_loaded(proxy(home))


def test_default_without_a_file_is_the_ssh_agent(home):
    said = proxy(home)
    assert "can not be used" in said and "SSH_AUTH_SOCK" in said and "id_ed25519" in said
    ssh_agent = SshAgent(home).start()
    try:
        ssh_agent.add(make_key(home / "ecdsa", kind="ecdsa"))
        assert "ssh-add" in proxy(home, SSH_AUTH_SOCK=str(ssh_agent.socket))
        ssh_agent.add(make_key(home / "key"))
        assert was_loaded(proxy(home, SSH_AUTH_SOCK=str(ssh_agent.socket)))
    finally:
        ssh_agent.kill()


def test_key_behind_a_passphrase_is_refused_with_the_way_out(home):
    key = make_key(home / ".ssh/id_ed25519", "secret")
    said = proxy(home)
    assert "can not be used" in said and "passphrase" in said and "ssh-agent:" in said
    assert "passphrase" in proxy(home, "--key", key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_key_that_others_can_read_is_refused(home, mode):
    key = make_key(home / "key")
    key.chmod(mode)
    said = proxy(home, "--key", key)
    assert "can not be used" in said and "chmod 600" in said


def test_key_that_the_ssh_agent_does_not_hold_is_named(home):
    ssh_agent = SshAgent(home).start()
    try:
        ssh_agent.add(make_key(home / "key"))
        other = make_key(home / "other")
        said = proxy(home, "--key", f"ssh-agent:{other}.pub", SSH_AUTH_SOCK=str(ssh_agent.socket))
        assert "can not be used" in said and f"{other}.pub" in said and "ssh-add" in said
        assert was_loaded(proxy(home, "--key", f"ssh-agent:{home}/key.pub", SSH_AUTH_SOCK=str(ssh_agent.socket)))
        said = proxy(home, "--key", f"ssh-agent:{other}", SSH_AUTH_SOCK=str(ssh_agent.socket))
        assert "private key" in said
    finally:
        ssh_agent.kill()

