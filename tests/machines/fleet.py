"""What a fleet needs around its machines, each a real program of its own on this host: a nats-server on a free
loopback port, an operator with an SSH key, a private session bus, and cbus-proxy on it.

A Fleet is a context manager; whatever it started ends with it, in the reverse order.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))

from machine import Machine, run  # noqa: E402
from programs import Bus, NatsServer, wait_for  # noqa: E402


def build_directory():
    return pathlib.Path(os.environ.get("CBUS_BUILD", TOP / "build"))


def public_key_line(private_key_file):
    return pathlib.Path(f"{private_key_file}.pub").read_text().strip()


@contextlib.contextmanager
def datagram_queue(length):
    """How many datagrams wait in a socket made meanwhile. Booting, systemd sets 512 on a real machine and may not in a
    container; with the kernel's 10 a journal that is not scheduled for a moment takes no audit record."""
    setting = pathlib.Path("/proc/sys/net/unix/max_dgram_qlen")
    before = setting.read_text()
    setting.write_text(str(max(length, int(before))))
    try:
        yield
    finally:
        setting.write_text(before)


def session_bus(name, directory, policy=""):
    """A private bus that runs, as a login session has one."""
    return Bus(name, directory, 50000, policy).start()


class Fleet:
    """Machines named NAMES with an agent each, and one operator with a proxy that knows them by these names. PLAIN: names of
    machines beside them that are not booted and have no agent."""

    def __init__(self, names, bus="dbus-daemon", agent_arguments="", proxy_arguments=(), plain=()):
        self.names = list(names)
        self.plain = list(plain)
        self.bus = bus
        self.agent_arguments = agent_arguments
        self.proxy_arguments = list(proxy_arguments)
        self.stack = contextlib.ExitStack()
        self.machines = {}
        self.nkeys = {}
        self.proxy = None

    def __enter__(self):
        """Whole or not at all. Ctrl-C is taken when all is there, or when a command that it ended has failed: between what
        is made and what notes it down it would leave a process or a mount behind."""
        pressed = []
        before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
        try:
            self._start()
            if pressed:
                raise KeyboardInterrupt
        except BaseException:
            self._close()
            if pressed:
                raise KeyboardInterrupt from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def __exit__(self, *exc):
        self._close()

    def _close(self):
        """Whole, however often Ctrl-C is pressed: the commands that it runs ignore it, too."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.stack.close()
        finally:
            signal.signal(signal.SIGINT, before)

    def _start(self):
        build = build_directory()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cbus-", dir=os.environ.get("CBUS_FLEET_TMP", "/var/tmp")))
        self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.operator_key = self.directory / "operator" / "id_ed25519"
        self.operator_key.parent.mkdir(mode=0o700)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(self.operator_key))
        self.cbus = build / "cli" / "cbus"

        self.nats = NatsServer(self.directory).start()
        self.stack.callback(self.nats.kill)
        for name in self.names:
            machine = Machine(name, self.directory, bus=self.bus)
            self.stack.callback(machine.stop)
            self.machines[name] = machine.prepare()
            machine.install_agent(build, self.nats.url, public_key_line(self.operator_key) + "\n", self.agent_arguments)
            self.nkeys[name] = run(str(self.cbus), "nkey", "--public-key", machine.public_key()).strip()
        for name in self.plain:
            machine = Machine(name, self.directory, plain=True)
            self.stack.callback(machine.stop)
            self.machines[name] = machine.prepare()
        with datagram_queue(512):
            for machine in self.machines.values():
                machine.boot()

        self.session = session_bus("session", self.directory)
        self.stack.callback(self.session.kill)
        known = self.directory / "operator" / "known_machines"
        known.write_text("".join(f"{self.nkeys[n]} {n}\n" for n in self.names))
        self.known_machines = known
        self.environment = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": self.session.address}
        self.start_proxy()
        self.stack.callback(self.stop_proxy)

    def start_proxy(self):
        with open(self.directory / "proxy.log", "ab") as log:
            self.proxy = subprocess.Popen(
                [str(build_directory() / "proxy" / "cbus-proxy"), "--nats", self.nats.url, "--key", str(self.operator_key),
                 "--bus", self.session.address, "--known-machines", str(self.known_machines), "--runtime-dir",
                 str(self.directory / "runtime"), *self.proxy_arguments],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True)
        self.wait_owned()

    def wait_owned(self):
        """Until ie.bmcgee.CBus is on the session bus."""
        def owned():
            if self.proxy.poll() is not None:
                raise RuntimeError(f"cbus-proxy ended with {self.proxy.returncode}:\n{self.proxy_log()}")
            done = subprocess.run(["busctl", f"--address={self.session.address}", "call", "org.freedesktop.DBus", "/",
                                   "org.freedesktop.DBus", "NameHasOwner", "s", "ie.bmcgee.CBus"], text=True,
                                  capture_output=True, check=False)
            return done.stdout.strip() == "b true"
        wait_for(owned, "ie.bmcgee.CBus on the session bus")

    def wait_online(self, count=None, timeout=30):
        """Until COUNT machines (all, if not said) are online, as `cbus machines --wait` sees it."""
        run(str(self.cbus), "machines", "--wait", str(count or len(self.names)), "--timeout", str(timeout),
            "--bus", self.session.address)

    def proxy_log(self):
        return (self.directory / "proxy.log").read_text(errors="replace")

    def stop_proxy(self):
        if self.proxy and self.proxy.poll() is None:
            self.proxy.send_signal(signal.SIGTERM)
            try:
                self.proxy.wait(5)
            except subprocess.TimeoutExpired:
                self.proxy.kill()
                self.proxy.wait()
                raise

    def busctl(self, *arguments, check=True):
        done = subprocess.run(["busctl", "--user", "--no-pager", *arguments], text=True, capture_output=True, check=False,
                              env=self.environment)
        if check and done.returncode != 0:
            raise RuntimeError(f"busctl {' '.join(arguments)}: {done.stderr.strip()}\n{self.proxy_log()[-2000:]}")
        return done.stdout if check else done

    def path(self, name, service="org.freedesktop.systemd1", below="/org/freedesktop/systemd1"):
        """The local path of a remote object (no character of these service names but '.' needs escaping)."""
        return f"/ie/bmcgee/CBus/{self.nkeys[name]}/{service.replace('.', '_2e')}{below}"
