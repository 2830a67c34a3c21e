"""Many machines on one small computer: the agents of swarm.c behind one nats-server and one bus, and a real proxy for them.

A Swarm is a context manager; whatever it started ends with it. tests/machines is on sys.path of whoever imports this.
"""
import contextlib
import json
import pathlib
import signal
import subprocess
import time
import urllib.request

from fleet import build_directory, public_key_line, session_bus
from machine import run
from programs import NatsServer, Started, wait_for

# A machine has a bus of its own; on the one that these share, each would be told of all others' connections.
QUIET = '<deny receive_type="signal" receive_interface="org.freedesktop.DBus" receive_member="NameOwnerChanged"/>'
# As many as a server of ours has on its system bus, owned.
SERVICES = [f"org.freedesktop.service{i}" for i in range(24)]


class Swarm(Started):
    """The programs of one measurement, each ended with it."""

    def __init__(self, directory, machines):
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.machines = machines
        self.build = build_directory()

    def _start(self):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "operator"))
        self.nats = NatsServer(self.directory, ["-m", "-1"]).start()
        self.stack.callback(self.nats.kill)
        ports = json.loads(next(self.nats.directory.glob("*.ports")).read_text())
        self.monitoring = ports["monitoring"][0]
        self.session = session_bus("session", self.directory)
        self.stack.callback(self.session.kill)
        self.remote = session_bus("remote", self.directory, QUIET)
        self.stack.callback(self.remote.kill)
        self.start_echo(self.remote, *SERVICES)
        lines = self.start_agents("m", self.machines, self.remote)
        (self.directory / "all").write_text("".join(lines))
        (self.directory / "one").write_text(lines[0])
        wait_for(lambda: self.varz()["connections"] >= self.machines, "all agents to be connected", timeout=120)

    def start_agents(self, prefix, count, bus):
        """A process with COUNT agents on BUS; their lines of known_machines."""
        swarm = str(self.build / "tests" / "bench" / "swarm")
        operator = run(str(self.build / "cli" / "cbus"), "nkey", "--public-key", public_key_line(self.directory / "operator")).strip()
        with open(self.directory / f"swarm-{prefix}.log", "wb") as log:
            process = subprocess.Popen([swarm, "run", prefix, str(count), self.nats.url, bus.address, operator],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.stack.callback(self._end, process)
        return run(swarm, "keys", prefix, str(count)).splitlines(keepends=True)

    def start_echo(self, bus, *names):
        services = subprocess.Popen([str(self.build / "tests" / "bench" / "bench"), "echo", bus.address, *names], stdin=subprocess.DEVNULL)
        self.stack.callback(self._end, services)

    @staticmethod
    def _end(process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    def varz(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring.rsplit(':', 1)[1]}/varz", timeout=10) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def proxy(self, known, count):
        """A proxy of the machines in file KNOWN; yields it and the seconds until all COUNT were online."""
        with open(self.directory / f"proxy-{known}.log", "wb") as log:
            start = time.monotonic()
            proxy = subprocess.Popen([str(self.build / "proxy" / "cbus-proxy"), "--nats", self.nats.url, "--key",
                                      str(self.directory / "operator"), "--bus", self.session.address, "--known-only",
                                      "--known-machines", str(self.directory / known), "--runtime-dir",
                                      str(self.directory / "run")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_owned(proxy)
            run(str(self.build / "cli" / "cbus"), "machines", "--wait", str(count), "--timeout", "120", "--bus", self.session.address)
            yield proxy, time.monotonic() - start
        finally:
            self._end(proxy)

    def wait_owned(self, proxy):
        def owned():
            if proxy.poll() is not None:
                raise RuntimeError(f"cbus-proxy ended with {proxy.returncode}")
            done = subprocess.run(["busctl", f"--address={self.session.address}", "call", "org.freedesktop.DBus", "/",
                                   "org.freedesktop.DBus", "NameHasOwner", "s", "ie.bmcgee.CBus"], text=True,
                                  capture_output=True, check=False)
            return done.stdout.strip() == "b true"
        wait_for(owned, "ie.bmcgee.CBus on the session bus")
