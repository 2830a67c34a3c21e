"""Programs that tests start, each with its output in a file; among them the nats-server and buses."""
import contextlib
import json
import pathlib
import select
import signal
import socket
import subprocess
import time

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <servicedir>{directory}/services</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
    {policy}
  </policy>
  <limit name="max_completed_connections">100000</limit>
  <limit name="max_incomplete_connections">10000</limit>
  <limit name="max_connections_per_user">100000</limit>
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_message_size">134217728</limit>
  <limit name="max_replies_per_connection">{replies}</limit>
  <limit name="max_match_rules_per_connection">50000</limit>
</busconfig>
"""


def wait_for(condition, what, timeout=20.0, interval=0.02):
    """Polls until condition() is true and returns its value; WHAT names it when it never is."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out after {timeout:g} s waiting for {what}")
        select.select([], [], [], interval)


def is_listening(path):
    """Whether a Unix socket takes connections: its name is there a moment before it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class Started:
    """A context manager: what _start() puts on self.stack ends with it, in the reverse order; at once if _start() fails."""

    def __init__(self):
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exc):
        self.stack.close()


class Program:
    """One child process with its output in a file."""

    def __init__(self, name, directory):
        self.name = name
        self.log_file = pathlib.Path(directory) / f"{name}.log"
        self.process = None

    def spawn(self, argv, **kwargs):
        assert not self.running, f"{self.name} is running already"
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stdout=kwargs.pop("stdout", log), stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True, **kwargs)
        return self

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self):
        if self.running:
            self.process.kill()
        if self.process:
            self.process.wait()

    def terminate(self, timeout=5):
        """SIGTERM; returns the exit status."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout) if self.process else None
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Bus(Program):
    """A private dbus-daemon; its address stays the same over restarts. REPLIES: how many one connection may wait for. POLICY:
    more of its default policy."""

    def __init__(self, name, directory, replies=128, policy=""):
        super().__init__(name, directory)
        self.directory = pathlib.Path(directory) / name
        (self.directory / "services").mkdir(parents=True)
        self.config = self.directory / "bus.conf"
        self.config.write_text(BUS_CONFIG.format(directory=self.directory, replies=replies, policy=policy))
        self.address = f"unix:path={self.directory}/bus"

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "bus").unlink()
        self.spawn(["dbus-daemon", f"--config-file={self.config}", "--nofork", "--nopidfile", "--print-address=1"],
                   stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline(), self.log()
        return self

    def activatable(self, name, argv):
        (self.directory / "services" / f"{name}.service").write_text(
            f"[D-BUS Service]\nName={name}\nExec={' '.join(str(a) for a in argv)}\n")


class NatsServer(Program):
    """nats-server on loopback; the port is free at the first start and stays the same over restarts. CONFIG, if it is set:
    the text of its configuration."""

    def __init__(self, directory, arguments=()):
        super().__init__("nats", directory)
        self.arguments = list(arguments)
        self.directory = pathlib.Path(directory) / "nats"
        self.directory.mkdir()
        self.port = -1
        self.config = None

    def start(self):
        for old in self.directory.glob("*.ports"):
            old.unlink()
        argv = ["nats-server", "-a", "127.0.0.1", "-p", self.port, "--ports_file_dir", self.directory, *self.arguments]
        if self.config is not None:
            (self.directory / "nats.conf").write_text(self.config)
            argv += ["-c", self.directory / "nats.conf"]
        self.spawn(argv)

        def url():
            assert self.running, self.log()[-1000:]
            for file in self.directory.glob("*.ports"):
                with contextlib.suppress(json.JSONDecodeError, OSError):
                    return json.loads(file.read_text())["nats"][0]
            return None

        self.port = int(wait_for(url, "nats-server to listen").rsplit(":", 1)[1])
        return self

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"
