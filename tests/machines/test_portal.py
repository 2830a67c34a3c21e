"""Portals on booted machines: systemd's own tools, and those of other daemons, drive a machine through its socket."""
import subprocess
import threading

import pytest
import unpacked
from machine import run
from programs import wait_for


@pytest.fixture
def client(booted_user):
    """Runs a client on the booted host whose system bus is the target's; a user's, since root's systemctl asks
    /run/systemd/private first."""
    machine = f"/ie/bmcgee/CBus/{booted_user.fleet.nkeys['target']}"
    address = booted_user.call("busctl", "--user", "get-property", "ie.bmcgee.CBus", machine, "ie.bmcgee.CBus1.Machine", "BusAddress",
                               check=True).stdout.split('"')[1]

    def call(*argv, check=True):
        return booted_user.call("env", f"DBUS_SYSTEM_BUS_ADDRESS={address}", *argv, check=check)

    call.address = address
    return call


def wait_for_line(process, text):
    """Reads until a line has TEXT; a process that is silent is killed."""
    timer = threading.Timer(20, process.kill)
    timer.start()
    try:
        said = ""
        while text not in (line := process.stdout.readline()):
            said += line
            assert line, f"no {text}: {said}"
        return line
    finally:
        timer.cancel()


def test_busctl_shows_the_machines_bus(hosts, target, client):
    def names(text):
        return {line.split()[0] for line in text.splitlines() if not line.startswith(":")}
    arguments = ("busctl", "--no-pager", "--no-legend", "list")
    assert names(client(*arguments).stdout) == names(target(*arguments))
    for arguments in (("busctl", "--no-pager", "tree", "--list", "org.freedesktop.hostname1"),
                      ("busctl", "--no-pager", "introspect", "org.freedesktop.hostname1", "/org/freedesktop/hostname1"),
                      ("busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                       "Version", "ControlGroup", "UserspaceTimestamp")):
        assert client(*arguments).stdout == target(*arguments)


def test_hostnamectl_reads_and_sets(hosts, target, client):
    assert client("hostnamectl", "hostname").stdout.strip() == "target"
    client("hostnamectl", "set-hostname", "renamed")
    try:
        assert target("hostname").strip() == "renamed"
        assert hosts.machines["host"].run("hostname").strip() == "host"
        assert client("hostnamectl", "hostname").stdout.strip() == "renamed"
    finally:
        client("hostnamectl", "set-hostname", "target")


def test_timedatectl_and_localectl(hosts, target, client):
    client("timedatectl", "set-timezone", "Asia/Tokyo")
    try:
        assert "Timezone=Asia/Tokyo" in client("timedatectl", "show").stdout
        assert target("readlink", "/etc/localtime").strip().endswith("Asia/Tokyo")
    finally:
        client("timedatectl", "set-timezone", "Etc/UTC")
    assert "System Locale" in client("localectl", "status").stdout


def test_busctl_calls_sets_and_monitors(hosts, target, client, booted_user):
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    client("busctl", "set-property", *manager, "LogLevel", "s", "debug")
    try:
        assert target("busctl", "get-property", *manager, "LogLevel") == 's "debug"\n'
    finally:
        client("busctl", "set-property", *manager, "LogLevel", "s", "info")
    assert client("busctl", "call", *manager, "GetUnit", "s", "dbus.service").stdout == target("busctl", "call", *manager, "GetUnit", "s", "dbus.service")
    status = dict(line.split("=", 1) for line in client("busctl", "status", "org.freedesktop.systemd1").stdout.splitlines() if "=" in line)
    assert status["PID"] == "1" and status["EUID"] == "0"
    monitor = booted_user.popen("env", f"DBUS_SYSTEM_BUS_ADDRESS={client.address}", "busctl", "--no-pager", "monitor", "org.freedesktop.systemd1")
    try:
        wait_for_line(monitor, "Monitoring bus message stream")
        target("busctl", "get-property", *manager, "Version")
        wait_for_line(monitor, "Member=Get")
    finally:
        monitor.kill()
        monitor.wait()


def test_gdbus_dbus_send_and_dbus_monitor(target, client, booted_user):
    systemd = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    machine_id = target("cat", "/etc/machine-id").strip()
    assert client("gdbus", "call", "--system", "-d", systemd[0], "-o", systemd[1], "-m", "org.freedesktop.DBus.Peer.GetMachineId").stdout == \
        f"('{machine_id}',)\n"
    assert client("dbus-send", "--system", "--print-reply=literal", f"--dest={systemd[0]}", systemd[1],
                  "org.freedesktop.DBus.Peer.GetMachineId").stdout.strip() == machine_id
    monitor = booted_user.popen("env", f"DBUS_SYSTEM_BUS_ADDRESS={client.address}", "dbus-monitor", "--system")
    try:
        wait_for_line(monitor, "NameLost")
        target("busctl", "call", *systemd, "org.freedesktop.DBus.Peer", "Ping")
        wait_for_line(monitor, "member=Ping")
    finally:
        monitor.kill()
        monitor.wait()


def test_loginctl(hosts, target, client):
    assert client("loginctl", "--no-legend", "list-seats").stdout == target("loginctl", "--no-legend", "list-seats")


def test_an_inhibitor_would_need_a_descriptor_and_is_refused(target, client):
    done = client("busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
                  "Inhibit", "ssss", "sleep", "test", "test", "block", check=False)
    assert done.returncode != 0
    assert "descriptors" in done.stderr


def test_a_transient_service_is_waited_for(hosts, target, client):
    client("systemd-run", "--wait", "--quiet", "touch", "/run-was-here")
    assert (hosts.machines["target"].root / "run-was-here").exists()
    assert client("systemd-run", "--wait", "--quiet", "sh", "-c", "exit 9", check=False).returncode == 9


def test_systemctl_of_a_user(hosts, target, client):
    assert client("systemctl", "is-active", "dbus").stdout == "active\n"
    assert client("systemctl", "show", "-p", "UserspaceTimestamp").stdout == target("systemctl", "show", "-p", "UserspaceTimestamp")


# --- daemons that other packages bring, and their clients -----------------------------------------------------------

# Each has a network of its own: it shall neither configure nor serve this computer's.
PRIVATE = "[Service]\nPrivateNetwork=yes\n"
needs_unpacked = pytest.mark.skipif(not unpacked.THERE, reason=unpacked.REASON)


@pytest.fixture
def daemon(hosts, target):
    """Starts a unit of the target; it is stopped afterwards."""
    started = []

    def start(unit, settings="", private=True):
        hosts.machines["target"].write(f"etc/systemd/system/{unit}.d/test.conf", (PRIVATE if private else "[Service]\n") + settings)
        mask = hosts.machines["target"].root / "etc/systemd/system" / unit
        if mask.is_symlink():
            mask.unlink()
        target("systemd-sysusers")
        target("systemctl", "daemon-reload")
        target("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")
        target("systemctl", "start", unit)
        started.append(unit)

    yield start
    for unit in started:
        target("systemctl", "stop", unit)


@needs_unpacked
def test_resolvectl(target, client, daemon):
    daemon("systemd-resolved.service")
    answer = client("resolvectl", "query", "--cache=no", "target").stdout
    assert answer.startswith("target: 127.0.0.2 ") and "-- Data from: synthetic" in answer
    assert client("resolvectl", "query", "no.such.host.invalid", check=False).returncode != 0
    assert client("resolvectl", "statistics").stdout.splitlines()[0] == target("resolvectl", "statistics").splitlines()[0]
    # It goes on to ask for the interfaces that it finds on its own host.
    assert client("resolvectl", "status", check=False).stdout.startswith("Global\n")
    client("resolvectl", "flush-caches")


@needs_unpacked
def test_nmcli(target, client, daemon):
    daemon("NetworkManager.service")
    assert client("nmcli", "-g", "RUNNING", "general", "status").stdout == "running\n"
    client("nmcli", "connection", "add", "type", "dummy", "ifname", "far0", "con-name", "far", "autoconnect", "no", "ipv4.method", "manual",
           "ipv4.addresses", "10.9.8.7/24", "ipv6.method", "disabled")
    try:
        client("nmcli", "connection", "modify", "far", "ipv4.addresses", "10.9.8.6/24")
        shown = ("nmcli", "-g", "connection.type,ipv4.addresses", "connection", "show", "far")
        assert client(*shown).stdout == target(*shown) == "dummy\n10.9.8.6/24\n"
        assert "GENERAL.DEVICE:lo" in client("nmcli", "-t", "-f", "GENERAL.DEVICE", "device", "show").stdout
        # The daemon of a container may not make an interface; nmcli hears by signals how far it came.
        refused = client("nmcli", "connection", "up", "far", check=False)
        assert "far0" in refused.stderr and "Operation not permitted" in refused.stderr
    finally:
        client("nmcli", "connection", "delete", "far")
    assert "far" not in client("nmcli", "-g", "NAME", "connection", "show").stdout.split()


@needs_unpacked
def test_udisksctl(target, client, daemon):
    daemon("udisks2.service", private=False)
    assert client("udisksctl", "status").stdout == target("udisksctl", "status")
    dump = client("udisksctl", "dump").stdout
    assert "/org/freedesktop/UDisks2/Manager:" in dump
    assert "SupportedFilesystems:" in dump
    done = client("udisksctl", "loop-setup", "--no-user-interaction", "-f", "/etc/hostname", check=False)
    assert done.returncode != 0, "its file would have to cross as a descriptor"


# Holds a power profile for as long as its connection lives, and subscribes to systemd's signals.
HOLDER = """
import os, sys
from gi.repository import Gio, GLib
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
bus.call_sync("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Subscribe", None, None, 0, -1, None)
bus.call_sync("net.hadess.PowerProfiles", "/net/hadess/PowerProfiles", "net.hadess.PowerProfiles", "HoldProfile",
              GLib.Variant("(sss)", ("power-saver", "a test", "com.example.Holder")), None, 0, -1, None)
print("held by", os.getpid(), bus.get_unique_name(), flush=True)
sys.stdin.read()
"""


@needs_unpacked
def test_what_hangs_on_a_connection_ends_with_its_client(target, client, daemon, booted_user):
    daemon("power-profiles-daemon.service")

    def held():
        return "com.example.Holder" in target("busctl", "get-property", "net.hadess.PowerProfiles", "/net/hadess/PowerProfiles",
                                              "net.hadess.PowerProfiles", "ActiveProfileHolds")

    def owned(name):
        return target("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", name) == "b true\n"
    holder = booted_user.popen("/usr/bin/python3", "-I", "-c", HOLDER, client.address, stdin=subprocess.PIPE)
    try:
        pid, name = wait_for_line(holder, "held by ").split()[-2:]
        assert held() and owned(name)
        assert client("busctl", "get-property", "net.hadess.PowerProfiles", "/net/hadess/PowerProfiles", "net.hadess.PowerProfiles",
                      "ActiveProfile").stdout == 's "power-saver"\n'
        client("kill", "-KILL", pid)
        wait_for(lambda: not held(), "the profile to be let go", 5)
        assert not owned(name)
        assert target("busctl", "get-property", "net.hadess.PowerProfiles", "/net/hadess/PowerProfiles", "net.hadess.PowerProfiles",
                      "ActiveProfile") == 's "balanced"\n'
    finally:
        holder.kill()
        holder.communicate()


def test_a_portal_of_a_machine_with_dbus_broker(broker_fleet):
    address = broker_fleet.busctl("get-property", "ie.bmcgee.CBus", f"/ie/bmcgee/CBus/{broker_fleet.nkeys['broker1']}",
                                  "ie.bmcgee.CBus1.Machine", "BusAddress").split('"')[1]
    assert "org.freedesktop.systemd1" in run("busctl", f"--address={address}", "--no-pager", "list")
    done = subprocess.run([str(broker_fleet.cbus), "run", "broker1", "--", "systemd-run", "--wait", "--quiet", "sh", "-c", "exit 4"],
                          env=broker_fleet.environment, check=False, timeout=60)
    assert done.returncode == 4
