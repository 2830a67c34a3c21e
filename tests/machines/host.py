"""An operator on a machine that serves as the host: a session bus and a proxy of his own, inside. From there commands go to
other machines, and what of the host must stay as it is can be looked at."""
import os
import shutil
import subprocess

from fleet import build_directory
from programs import Started, wait_for

USER = 1234


class Host(Started):
    """An operator on the machine NAME, which may be one that is not booted."""

    def __init__(self, fleet, name, uid):
        super().__init__()
        self.fleet = fleet
        self.machine = fleet.machines[name]
        self.uid = uid
        self.home = f"/var/lib/operator{uid}"

    def _start(self):
        home = self.machine.root / self.home[1:]
        home.mkdir(mode=0o700)
        for program in ("cli/cbus", "proxy/cbus-proxy"):
            if not (self.machine.root / "usr/local/bin" / program.split("/")[1]).exists():
                shutil.copy(build_directory() / program, self.machine.root / "usr/local/bin")
        if self.uid != 0:
            with open(self.machine.root / "etc/passwd", "a", encoding="utf-8") as accounts:
                accounts.write(f"operator:x:{self.uid}:{self.uid}::{self.home}:/bin/sh\n")
        shutil.copy(self.fleet.operator_key, home / "key")
        (home / "key").chmod(0o600)
        shutil.copy(self.fleet.known_machines, home / "known_machines")
        for entry in (home, home / "key", home / "known_machines"):
            os.chown(entry, self.uid, self.uid)
        self.session = f"unix:path={self.home}/session"
        self.start("dbus-daemon", "--session", "--nofork", f"--address={self.session}")
        wait_for(lambda: self.call("busctl", f"--address={self.session}", "list").returncode == 0, "the session bus")
        self.start("/usr/local/bin/cbus-proxy", "--nats", self.fleet.nats.url, "--key", f"{self.home}/key", "--bus", self.session,
                   "--known-machines", f"{self.home}/known_machines", "--runtime-dir", f"{self.home}/run")
        self.call("/usr/local/bin/cbus", "machines", "--wait", str(len(self.fleet.names)), "--timeout", "30", check=True)

    def command(self, *argv):
        command = self.machine.enter(f"CBUS_BUS={self.session}", f"DBUS_SESSION_BUS_ADDRESS={self.session}", f"HOME={self.home}", *argv)
        if self.uid == 0:
            return command
        at = command.index("env")
        return command[:at] + ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"] + command[at:]

    def start(self, *argv):
        process = subprocess.Popen(self.command(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def popen(self, *argv, stdin=subprocess.DEVNULL):
        return subprocess.Popen(self.command(*argv), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def call(self, *argv, check=False):
        done = subprocess.run(self.command(*argv), text=True, capture_output=True, check=False, timeout=90, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, *argv, machine="target"):
        """cbus run MACHINE -- ARGV"""
        return self.call("/usr/local/bin/cbus", "run", machine, "--", *argv)

    def state(self):
        """What of the host must stay as it is."""
        files = self.machine.run("sh", "-c", "find /etc/systemd /usr/lib/systemd /run/systemd/system /run/systemd/transient ! -type d 2>&1; true")
        if self.machine.plain:
            return (self.machine.init, files, self.machine.run("ls", "-A", "/run"))
        return (self.machine.init, self.machine.run("systemctl", "show", "-p", "UserspaceTimestamp", "-p", "NJobs", "-p", "NFailedUnits"),
                self.machine.run("systemctl", "show", "systemd-journald", "-p", "InvocationID"), files,
                self.machine.run("systemctl", "--no-legend", "--plain", "list-units", "probe*", "--all"))
