"""The ready-made policies on a booted machine: readonly reads without secrets, units starts and stops, both no more."""
import json
import subprocess

import pytest
from fleet import Fleet, public_key_line
from programs import wait_for

NAME = "ie.bmcgee.CBus"
SYSTEMD = "org.freedesktop.systemd1"
MANAGER = SYSTEMD + ".Manager"
SERVICE = SYSTEMD + ".Service"
TOP = "/org/freedesktop/systemd1"
PROBE = TOP + "/unit/probe_2eservice"
PROPERTIES = "org.freedesktop.DBus.Properties"
SECRET = "hunter2"
DENIED = "Access denied"  # in busctl's words


@pytest.fixture(scope="module", params=["dbus-daemon", "dbus-broker"])
def policed(request):
    with Fleet(["policed1"], bus=request.param) as fleet:
        machine = fleet.machines["policed1"]
        machine.write("etc/systemd/system/probe.service",
                      f"[Service]\nExecStart=/bin/sleep 1000\nEnvironment=PASSWORD={SECRET}\n")
        machine.run("systemctl", "daemon-reload")
        fleet.wait_online()
        yield fleet


def property_of(fleet, name):
    return fleet.busctl("get-property", NAME, f"/ie/bmcgee/CBus/{fleet.nkeys['policed1']}", "ie.bmcgee.CBus1.Machine", name,
                        check=False).stdout.strip()


def bus(fleet, *arguments):
    """busctl on the machine's portal."""
    address = property_of(fleet, "BusAddress").split('"')[1]
    return subprocess.run(["busctl", f"--address={address}", *arguments], text=True, capture_output=True, check=False,
                          timeout=30)


def call(fleet, *arguments):
    return bus(fleet, "call", SYSTEMD, TOP, MANAGER, *arguments)


def under(fleet, policy):
    """The operator's key has POLICY from now on."""
    line = f'policy="{policy}" {public_key_line(fleet.operator_key)}\n'
    fleet.machines["policed1"].write("etc/cbus/authorized_keys", line, 0o600)

    def judged():
        if property_of(fleet, "State") != 's "online"':
            return False
        denied = DENIED in call(fleet, "StopUnit", "ss", "nowhere.service", "replace").stderr
        return denied == (policy == "readonly") and DENIED in call(fleet, "Reexecute").stderr

    wait_for(judged, f"policy {policy}")
    return fleet


@pytest.fixture
def readonly(policed):
    return under(policed, "readonly")


@pytest.fixture
def units(policed):
    return under(policed, "units")


def all_properties(fleet, interface):
    done = bus(fleet, "--json=short", "call", SYSTEMD, PROBE, PROPERTIES, "GetAll", "s", interface)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"][0]


def test_readonly_reads(readonly):
    for arguments in (("GetUnit", "s", "dbus.service"), ("ListUnits",), ("ListUnitFiles",), ("GetDefaultTarget",),
                      ("GetUnitFileState", "s", "probe.service"), ("Subscribe",)):
        done = call(readonly, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert bus(readonly, "get-property", SYSTEMD, PROBE, SYSTEMD + ".Unit", "ActiveState").stdout == 's "inactive"\n'
    assert bus(readonly, "get-property", "org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1",
               "Hostname").returncode == 0
    assert bus(readonly, "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
               "ListSessions").returncode == 0
    assert bus(readonly, "introspect", SYSTEMD, PROBE).returncode == 0


def test_what_may_not_be_seen_is_as_if_it_were_not_there(policed):
    """By this bus's own words, whichever bus it is; and nobody hears of its comings and goings."""
    policed.machines["policed1"].write("etc/cbus/agent.conf", f"[policy one]\ntalk={SYSTEMD}\n")
    line = f'policy="one" {public_key_line(policed.operator_key)}\n'
    policed.machines["policed1"].write("etc/cbus/authorized_keys", line, 0o600)
    hidden = "org.freedesktop.hostname1"

    def judged():
        names = bus(policed, "list", "--no-pager").stdout  # empty while the link is made anew
        return property_of(policed, "State") == 's "online"' and SYSTEMD in names and hidden not in names

    wait_for(judged, "the policy")
    assert bus(policed, "get-property", SYSTEMD, TOP, MANAGER, "Version").returncode == 0
    names = bus(policed, "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListActivatableNames").stdout
    assert SYSTEMD in names and hidden not in names
    for arguments in (("call", "{}", "/", "org.freedesktop.DBus.Peer", "Ping"), ("introspect", "{}", "/"), ("tree", "{}"),
                      ("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetNameOwner", "s", "{}"),
                      ("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", "{}"),
                      ("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "StartServiceByName", "su", "{}", "0")):
        told = [bus(policed, *(argument.format(name) for argument in arguments)) for name in (hidden, "com.example.NotThere")]
        assert told[0].returncode == told[1].returncode
        assert (told[0].stdout + told[0].stderr).replace(hidden, "com.example.NotThere") == told[1].stdout + told[1].stderr


def test_readonly_keeps_secrets(readonly):
    direct = readonly.machines["policed1"].run("busctl", "--json=short", "call", SYSTEMD, PROBE, PROPERTIES, "GetAll", "s",
                                               SERVICE)
    expected = json.loads(direct)["data"][0]
    assert SECRET in direct
    for interface in (SERVICE, ""):
        properties = all_properties(readonly, interface)
        assert "Environment" not in properties and SECRET not in str(properties)
        assert set(expected) - set(properties) == {"Environment", "SetCredential", "SetCredentialEncrypted"} & set(expected)
    denied = bus(readonly, "get-property", SYSTEMD, PROBE, SERVICE, "Environment")
    assert denied.returncode != 0 and DENIED in denied.stderr
    for member in ("Dump", "DumpByFileDescriptor"):
        denied = call(readonly, member)
        assert denied.returncode != 0 and DENIED in denied.stderr


def test_readonly_changes_nothing(readonly):
    for arguments in (("StartUnit", "ss", "probe.service", "replace"), ("PowerOff",), ("SetEnvironment", "as", "1", "A=b"),
                      ("EnableUnitFiles", "asbb", "1", "probe.service", "false", "false")):
        denied = call(readonly, *arguments)
        assert denied.returncode != 0 and DENIED in denied.stderr, arguments
    assert bus(readonly, "set-property", SYSTEMD, TOP, MANAGER, "LogLevel", "s", "debug").returncode != 0
    assert bus(readonly, "call", SYSTEMD, PROBE, SYSTEMD + ".Unit", "Start", "s", "replace").returncode != 0
    assert bus(readonly, "monitor").returncode != 0


def test_units_starts_and_stops(units):
    machine = units.machines["policed1"]
    assert call(units, "StartUnit", "ss", "probe.service", "replace").returncode == 0
    wait_for(lambda: "active" == machine.run("systemctl", "show", "-P", "ActiveState", "probe.service").strip(), "the start")
    assert bus(units, "call", SYSTEMD, PROBE, SYSTEMD + ".Unit", "Stop", "s", "replace").returncode == 0
    wait_for(lambda: "inactive" == machine.run("systemctl", "show", "-P", "ActiveState", "probe.service").strip(), "the stop")
    for arguments in (("PowerOff",), ("KillUnit", "ssi", "dbus.service", "all", "9")):
        assert DENIED in call(units, *arguments).stderr
    assert bus(units, "get-property", SYSTEMD, PROBE, SERVICE, "Environment").returncode != 0
