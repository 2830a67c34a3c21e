"""Portals on booted machines: systemd's own tools drive a machine through its socket, and `cbus run` lets nothing of a
command reach the machine that it runs on.

For the latter one machine serves as the host: it is booted with systemd, has an operator's proxy and a session bus inside,
and from there commands go to the other. Once the operator is root, once a user.
"""
import contextlib
import os
import shutil
import subprocess

import pytest
from fleet import Fleet, build_directory
from machine import run, wait_for

USER = 1234


class Host:
    """An operator on the machine "host": a session bus and a proxy of his own, inside."""

    def __init__(self, fleet, uid):
        self.fleet = fleet
        self.machine = fleet.machines["host"]
        self.uid = uid
        self.home = f"/var/lib/operator{uid}"
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        home = self.machine.root / self.home[1:]
        home.mkdir(mode=0o700)
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
        wait_for((home / "session").exists, "the session bus")
        self.start("/usr/local/bin/cbus-proxy", "--nats", self.fleet.nats.url, "--key", f"{self.home}/key", "--bus", self.session,
                   "--known-machines", f"{self.home}/known_machines", "--runtime-dir", f"{self.home}/run")
        self.call("/usr/local/bin/cbus", "machines", "--wait", "3", "--timeout", "30", check=True)
        return self

    def __exit__(self, *exc):
        self.stack.close()

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

    def call(self, *argv, check=False):
        done = subprocess.run(self.command(*argv), text=True, capture_output=True, check=False, timeout=90, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, *argv, machine="target"):
        """cbus run MACHINE -- ARGV"""
        return self.call("/usr/local/bin/cbus", "run", machine, "--", *argv)

    def state(self):
        """What of the host must stay as it is."""
        files = self.machine.run("sh", "-c", "find /etc/systemd /run/systemd/system /run/systemd/transient ! -type d 2>&1; true")
        return (self.machine.init, self.machine.run("systemctl", "show", "-p", "UserspaceTimestamp", "-p", "NJobs", "-p", "NFailedUnits"),
                self.machine.run("systemctl", "show", "systemd-journald", "-p", "InvocationID"), files,
                self.machine.run("systemctl", "--no-legend", "--plain", "list-units", "probe*", "--all"))


@pytest.fixture(scope="module")
def pair():
    with Fleet(["target", "victim", "host"]) as running:
        running.wait_online()
        running.machines["target"].write("etc/systemd/system/probe.service", "[Service]\nExecStart=/bin/sleep 1000\n"
                                         "[Install]\nWantedBy=multi-user.target\n")
        running.machines["target"].run("systemctl", "daemon-reload")
        for name in ("cli/cbus", "proxy/cbus-proxy"):
            shutil.copy(build_directory() / name, running.machines["host"].root / "usr/local/bin")
        yield running


@pytest.fixture(scope="module")
def root(pair):
    with Host(pair, 0) as host:
        yield host


@pytest.fixture(scope="module")
def user(pair):
    with Host(pair, USER) as host:
        yield host


@pytest.fixture(params=["root", "user"])
def host(request):
    """The host, which is after the test as it was before."""
    operator = request.getfixturevalue(request.param)
    before = operator.state()
    yield operator
    assert operator.state() == before


def target(pair, *argv):
    return pair.machines["target"].run(*argv)


# --- clients with an address --------------------------------------------------------------------------------------


@pytest.fixture
def client(user):
    """Runs a client on the booted host whose system bus is the target's; a user's, since root's systemctl asks
    /run/systemd/private first."""
    address = user.call("busctl", "--user", "get-property", "ie.bmcgee.CBus", f"/ie/bmcgee/CBus/{user.fleet.nkeys['target']}",
                        "ie.bmcgee.CBus1.Machine", "BusAddress", check=True).stdout.split('"')[1]

    def call(*argv, check=True):
        return user.call("env", f"DBUS_SYSTEM_BUS_ADDRESS={address}", *argv, check=check)

    return call


def test_busctl_shows_the_machines_bus(pair, client):
    def names(text):
        return {line.split()[0] for line in text.splitlines() if not line.startswith(":")}
    arguments = ("busctl", "--no-pager", "--no-legend", "list")
    assert names(client(*arguments).stdout) == names(target(pair, *arguments))
    for arguments in (("busctl", "--no-pager", "tree", "--list", "org.freedesktop.hostname1"),
                      ("busctl", "--no-pager", "introspect", "org.freedesktop.hostname1", "/org/freedesktop/hostname1"),
                      ("busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                       "Version", "ControlGroup", "UserspaceTimestamp")):
        assert client(*arguments).stdout == target(pair, *arguments)


def test_hostnamectl_reads_and_sets(pair, client):
    assert client("hostnamectl", "hostname").stdout.strip() == "target"
    client("hostnamectl", "set-hostname", "renamed")
    try:
        assert target(pair, "hostname").strip() == "renamed"
        assert pair.machines["host"].run("hostname").strip() == "host"
        assert client("hostnamectl", "hostname").stdout.strip() == "renamed"
    finally:
        client("hostnamectl", "set-hostname", "target")


def test_timedatectl_and_localectl(pair, client):
    client("timedatectl", "set-timezone", "Asia/Tokyo")
    try:
        assert "Timezone=Asia/Tokyo" in client("timedatectl", "show").stdout
        assert target(pair, "readlink", "/etc/localtime").strip().endswith("Asia/Tokyo")
    finally:
        client("timedatectl", "set-timezone", "Etc/UTC")
    assert "System Locale" in client("localectl", "status").stdout


def test_loginctl(pair, client):
    assert client("loginctl", "--no-legend", "list-seats").stdout == target(pair, "loginctl", "--no-legend", "list-seats")


def test_an_inhibitor_would_need_a_descriptor_and_is_refused(client):
    done = client("busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
                  "Inhibit", "ssss", "sleep", "test", "test", "block", check=False)
    assert done.returncode != 0
    assert "descriptors" in done.stderr


def test_a_transient_service_is_waited_for(pair, client):
    client("systemd-run", "--wait", "--quiet", "touch", "/run-was-here")
    assert (pair.machines["target"].root / "run-was-here").exists()
    assert client("systemd-run", "--wait", "--quiet", "sh", "-c", "exit 9", check=False).returncode == 9


def test_systemctl_of_a_user(pair, client):
    assert client("systemctl", "is-active", "dbus").stdout == "active\n"
    assert client("systemctl", "show", "-p", "UserspaceTimestamp").stdout == target(pair, "systemctl", "show", "-p", "UserspaceTimestamp")


def test_a_portal_of_a_machine_with_dbus_broker(broker_fleet):
    address = broker_fleet.busctl("get-property", "ie.bmcgee.CBus", f"/ie/bmcgee/CBus/{broker_fleet.nkeys['broker1']}",
                                  "ie.bmcgee.CBus1.Machine", "BusAddress").split('"')[1]
    assert "org.freedesktop.systemd1" in run("busctl", f"--address={address}", "--no-pager", "list")
    done = subprocess.run([str(broker_fleet.cbus), "run", "broker1", "--", "systemd-run", "--wait", "--quiet", "sh", "-c", "exit 4"],
                          env=broker_fleet.environment, check=False, timeout=60)
    assert done.returncode == 4


# --- cbus run -----------------------------------------------------------------------------------------------------


def test_run_restarts_a_service_of_the_machine(pair, host):
    before = target(pair, "systemctl", "show", "systemd-journald", "-p", "InvocationID")
    done = host.run("systemctl", "restart", "systemd-journald")
    assert done.returncode == 0, done.stderr
    assert target(pair, "systemctl", "show", "systemd-journald", "-p", "InvocationID") != before


def test_run_lists_and_shows_units_of_the_machine(pair, host):
    assert "probe.service" in host.run("systemctl", "--no-pager", "list-unit-files").stdout
    mine = host.run("systemctl", "--no-pager", "--plain", "--no-legend", "list-units", "--type=service").stdout
    its = target(pair, "systemctl", "--no-pager", "--plain", "--no-legend", "list-units", "--type=service")
    assert {line.split()[0] for line in mine.splitlines()} == {line.split()[0] for line in its.splitlines()}
    status = host.run("systemctl", "--no-pager", "status", "dbus.service")
    assert "Active: active" in status.stdout
    assert status.returncode == 0


def test_run_enables_on_the_machine_alone(pair, host):
    assert host.run("systemctl", "is-enabled", "probe").stdout == "disabled\n"
    assert host.run("systemctl", "enable", "--now", "probe").returncode == 0
    try:
        assert target(pair, "systemctl", "is-enabled", "probe") == "enabled\n"
        assert target(pair, "systemctl", "is-active", "probe") == "active\n"
        assert host.run("systemctl", "is-active", "probe").stdout == "active\n"
        assert not (host.machine.root / "etc/systemd/system/multi-user.target.wants/probe.service").is_symlink()
    finally:
        host.run("systemctl", "disable", "--now", "probe")
    assert host.run("systemctl", "is-active", "probe").returncode == 3


def test_run_neither_shows_nor_edits_files_of_the_host(host):
    shown = host.run("systemctl", "--no-pager", "cat", "systemd-journald")
    assert "ExecStart" not in shown.stdout
    assert host.run("sh", "-c", "EDITOR='sh -c \"echo [Unit] >$1\" --' SYSTEMD_EDITOR=true systemctl edit --force probe2").returncode != 0
    assert not (host.machine.root / "etc/systemd/system/probe2.service.d").exists()
    assert host.run("journalctl", "-n", "5", "--no-pager").stderr.startswith("cbus: warning: ")


def test_run_does_not_reach_user_managers(host):
    done = host.run("systemctl", "--user", "list-units")
    assert done.returncode != 0
    assert "connect to bus" in done.stderr


def test_run_does_not_reboot_the_host_by_force(host):
    done = host.run("reboot", "-ff")
    assert done.returncode != 0


def test_run_shows_the_machines_host_name_and_session(pair, host):
    assert host.run("hostname").stdout == "target\n"
    assert host.run("hostnamectl", "hostname").stdout == "target\n"
    assert host.run("timedatectl", "show", "-p", "Timezone").stdout.startswith("Timezone=")
    assert host.run("systemd-run", "--wait", "--quiet", "sh", "-c", "exit 5").returncode == 5


def test_run_powers_the_machine_off_and_not_the_host(pair, host):
    victim = "victim" if host.uid == 0 else "target"
    host.run("systemctl", "poweroff", machine=victim)  # its answer may be lost: the agent stops like everything else
    wait_for(lambda: pair.machines[victim].process.poll() is not None, f"{victim} to be off", 60)
