"""A whole CBus without machines: nats-server, a remote bus with a test service, cbus-agent on it, a session bus and
cbus-proxy on that; each a real program, private, on a free port or in a temporary directory.

Everything can be killed and started again by itself. A Stack is a context manager; whatever it started ends with it, in
the reverse order. Nothing sleeps: wait_for() polls a condition, Client.wait() runs the main loop until one holds.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from gi.repository import Gio, GLib

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))

from programs import Bus, NatsServer, Program, Started, is_listening, wait_for  # noqa: E402

BUILD = pathlib.Path(os.environ.get("CBUS_BUILD", TOP / "build")).resolve()
NAME = "ie.bmcgee.CBus"
ROOT = "/ie/bmcgee/CBus"
TEST = "com.example.Test"


def escape(service):
    """A bus name as an element of an object path."""
    return "".join(c if c.isalnum() and c.isascii() and not (i == 0 and c.isdigit()) else f"_{ord(c):02x}"
                   for i, c in enumerate(service))


# dbus-broker's launcher wants a journal to log to, the listening socket, and a bus to find systemd on: it takes its own.
BROKER = """
import os, socket, sys
address, config = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(address)
listener.listen(128)
listener.set_inheritable(True)
if not os.path.exists("/run/systemd/journal/socket"):
    os.makedirs("/run/systemd/journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind("/run/systemd/journal/socket")
    os.dup2(journal.fileno(), 9)
os.dup2(listener.fileno(), 3)
os.environ.update(DBUS_SESSION_BUS_ADDRESS="unix:path=" + address, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp("dbus-broker-launch", ["dbus-broker-launch", "--scope", "user", "--config-file=" + config])
"""


class Broker(Bus):
    """A private dbus-broker, without a systemd that could start services on it. Where there is no journal, only root can
    show it one (in a mount namespace)."""

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "bus").unlink()
        namespace = [] if os.path.exists("/run/systemd/journal/socket") else \
            ["unshare", "-m", "sh", "-c", 'mount -t tmpfs run /run && exec "$@"', "sh"]
        self.spawn([*namespace, sys.executable, "-c", BROKER, self.directory / "bus", self.config])

        def answers():
            assert self.running, self.log()
            return subprocess.run(["busctl", f"--address={self.address}", "list"], check=False, capture_output=True).returncode == 0

        wait_for(answers, f"dbus-broker to answer: {self.log()}")
        return self


def spawn_service(program, bus, *names, script="service.py"):
    """SCRIPT as PROGRAM on BUS; returns once it has NAMES."""
    program.spawn([sys.executable, TOP / "tests/integration" / script, *names], stdout=subprocess.PIPE, text=True,
                  env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": bus.address})
    assert program.process.stdout.readline() == "ready\n", program.log()


class Client:
    """A GDBus connection to a bus, and the signals it saw."""

    def __init__(self, address):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self.connection.set_exit_on_close(False)
        self.signals = []

    def close(self):
        if not self.connection.is_closed():
            self.connection.close_sync(None)

    def call(self, destination, path, interface, member, signature=None, *args, timeout=15,
             flags=Gio.DBusCallFlags.NONE):
        """The reply's values; GLib.Error for an error reply."""
        parameters = GLib.Variant(signature, args) if signature else None
        reply = self.connection.call_sync(destination, path, interface, member, parameters, None, flags,
                                          int(timeout * 1000), None)
        return reply.unpack()

    def start(self, destination, path, interface, member, signature=None, *args, timeout=60):
        """Begins a call; returns a list that gets its reply (a tuple) or its error once it is there."""
        result = []

        def done(connection, reply):
            try:
                result.append(connection.call_finish(reply).unpack())
            except GLib.Error as error:
                result.append(error)

        parameters = GLib.Variant(signature, args) if signature else None
        self.connection.call(destination, path, interface, member, parameters, None, Gio.DBusCallFlags.NONE,
                             int(timeout * 1000), None, done)
        return result

    def error(self, *args, **kwargs):
        """(name, message) of the error reply that the call must get."""
        try:
            value = self.call(*args, **kwargs)
        except GLib.Error as error:
            return split_error(error)
        raise AssertionError(f"an error was expected, not {value!r}")

    def watch(self, interface=None, member=None, path_prefix=None):
        """Collects signals of the mirror as (path, interface, member, values) from now on."""
        def seen(_connection, _sender, path, signal_interface, signal_member, values):
            if path_prefix is None or path.startswith(path_prefix):
                self.signals.append((path, signal_interface, signal_member, values.unpack()))

        self.connection.signal_subscribe(NAME, interface, member, None, None, Gio.DBusSignalFlags.NONE, seen)
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")

    def wait(self, condition, what, timeout=15.0):
        """Runs the main loop until condition() is true; returns its value."""
        end = time.monotonic() + timeout
        ticking = GLib.timeout_add(50, lambda: True)
        try:
            while True:
                value = condition()
                if value:
                    return value
                if time.monotonic() > end:
                    raise AssertionError(f"timed out after {timeout:g} s waiting for {what}; signals: {self.signals}")
                GLib.MainContext.default().iteration(True)
        finally:
            GLib.source_remove(ticking)


def split_error(error):
    name = Gio.DBusError.get_remote_error(error)
    return name, error.message.removeprefix(f"GDBus.Error:{name}: ")


class Stack(Started):
    """One remote bus with an agent, one session bus with a proxy, one broker between them."""

    def __init__(self, replies=128, known=True, bus=Bus):
        super().__init__()
        self.bus = bus
        self.replies = replies
        self.known = known
        self.clients = []
        self.agent_url = None
        self.proxy_url = None
        self.agent_options = []  # after the others: the last one counts
        self.proxy_options = []
        self.environment = {}

    def _key(self, name):
        file = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
        return file

    def nkey_of(self, key):
        return subprocess.run([str(BUILD / "cli" / "cbus"), "nkey", "--public-key-file", f"{key}.pub"], check=True,
                              capture_output=True, text=True).stdout.strip()

    def new_nkey(self, name):
        return self.nkey_of(self._key(name))

    def _start(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cbus-test-"))
        self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.machine_key = self._key("machine")
        self.operator_key = self._key("operator")
        self.nkey = self.nkey_of(self.machine_key)
        self.authorized = self.directory / "authorized_keys"
        self.authorized.write_text(pathlib.Path(f"{self.operator_key}.pub").read_text())
        self.authorized.chmod(0o600)
        self.known_machines = self.directory / "known_machines"
        self.known_machines.write_text(f"{self.nkey} web1\n" if self.known else "")

        self.nats = NatsServer(self.directory)
        self.remote = self.bus("remote", self.directory, self.replies)
        self.session = self.bus("session", self.directory, 50000)
        self.service = Program("service", self.directory)
        self.agent = Program("agent", self.directory)
        self.proxy = Program("proxy", self.directory)
        self.remote.activatable("com.example.Lazy", [sys.executable, TOP / "tests/integration/service.py", "com.example.Lazy"])
        self.prepare()
        for program in (self.nats, self.remote, self.session, self.service):
            self.stack.callback(program.kill)
            if program is not self.service:
                program.start()
        self.start_service()
        self.stack.callback(self.agent.kill)
        self.start_agent()
        self.stack.callback(self.proxy.kill)
        self.start_proxy()
        self.stack.callback(self._close_clients)
        self.client = self.new_client()
        self.wait_online()

    def prepare(self):
        """Everything is named and nothing runs: for tests that configure the broker and the logins."""

    def start_service(self):
        """com.example.One and com.example.Two, of one process."""
        spawn_service(self.service, self.remote, "com.example.One", "com.example.Two")

    def start_agent(self, bus=None, system=False):
        """SYSTEM: the remote bus is the machine's system bus, as the environment says it."""
        self.agent.spawn([BUILD / "agent/cbus-agent", "--nats", self.agent_url or self.nats.url, "--key", self.machine_key,
                          "--authorized-keys", self.authorized, "--bus", bus or self.remote.address, "--name", "remote-host",
                          *self.agent_options],
                         env={**os.environ, **({"DBUS_SYSTEM_BUS_ADDRESS": self.remote.address} if system else {}),
                              **self.environment})

    def start_proxy(self):
        self.proxy.spawn([BUILD / "proxy/cbus-proxy", "--nats", self.proxy_url or self.nats.url, "--key", self.operator_key, "--bus",
                          self.session.address, "--known-machines", self.known_machines, "--runtime-dir",
                          self.directory / "runtime", *self.proxy_options], env={**os.environ, **self.environment})

    def new_client(self):
        client = Client(self.session.address)
        self.clients.append(client)
        return client

    def _close_clients(self):
        for client in self.clients:
            client.close()

    # Places

    @property
    def machine(self):
        return f"{ROOT}/{self.nkey}"

    def path(self, service="com.example.One", below="/"):
        return f"{self.machine}/{escape(service)}{'' if below == '/' else below}"

    # Calls

    def call(self, member, signature=None, *args, service="com.example.One", below="/com/example/Test", interface=TEST,
             client=None, **kwargs):
        return (client or self.client).call(NAME, self.path(service, below), interface, member, signature, *args, **kwargs)

    def start(self, member, signature=None, *args, service="com.example.One", below="/com/example/Test", client=None):
        return (client or self.client).start(NAME, self.path(service, below), TEST, member, signature, *args)

    def error(self, member, signature=None, *args, service="com.example.One", below="/com/example/Test", interface=TEST,
              **kwargs):
        return self.client.error(NAME, self.path(service, below), interface, member, signature, *args, **kwargs)

    def introspect(self, path):
        return self.client.call(NAME, path, "org.freedesktop.DBus.Introspectable", "Introspect")[0]

    def property(self, name):
        return self.client.call(NAME, self.machine, "org.freedesktop.DBus.Properties", "Get", "(ss)",
                                "ie.bmcgee.CBus1.Machine", name)[0]

    def state(self):
        with contextlib.suppress(GLib.Error):
            return self.property("State")
        return None

    def wait_state(self, state, timeout=15.0):
        wait_for(lambda: self.state() == state, f"State to be {state}; proxy: {self.proxy.log()[-2000:]}; "
                 f"agent: {self.agent.log()[-2000:]}", timeout)

    def wait_online(self, service="com.example.One", timeout=15.0):
        """Until SERVICE is listed on an online machine."""
        def listed():
            for program in (self.proxy, self.agent):
                assert program.running, f"{program.name} ended with {program.process.returncode}: {program.log()[-3000:]}"
            with contextlib.suppress(GLib.Error):
                return self.property("Online") and service in self.property("Services")
            return False

        wait_for(listed, f"{service} on an online machine; proxy: {self.proxy.log()[-2000:]}; agent: "
                 f"{self.agent.log()[-2000:]}", timeout)

    def stop(self):
        """Both daemons end in order (a leak that the sanitizers find is no order)."""
        self.check()
        for program in (self.proxy, self.agent):
            status = program.terminate()
            assert status == 0, f"{program.name} ended with {status}: {program.log()[-3000:]}"

    def check(self):
        """Both daemons live and said nothing that no daemon should say."""
        for program in (self.proxy, self.agent):
            assert program.running, f"{program.name} ended with {program.process.returncode}: {program.log()[-3000:]}"
            for word in ("CRITICAL", "ERROR: AddressSanitizer", "runtime error:", "WARNING: ThreadSanitizer"):
                assert word not in program.log(), program.log()[-4000:]


class Peak:
    """The most memory that each daemon of a stack had whenever look() was called."""

    def __init__(self, stack):
        self.programs = (stack.proxy, stack.agent)
        self.most = [0, 0]

    def look(self):
        for i, program in enumerate(self.programs):
            status = pathlib.Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
            self.most[i] = max(self.most[i], *(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")))

    def check(self, limit):
        if "ASAN_OPTIONS" not in os.environ:  # which keeps what was freed
            assert max(self.most) < limit, self.most
