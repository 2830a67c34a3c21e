"""The mirror on booted machines: what it answers is what each machine's own bus answers."""
import contextlib
import json
import re
import signal
import subprocess
import threading

import pytest
from machine import run
from programs import wait_for

NAME = "ie.bmcgee.CBus"
SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
ROOT = "/org/freedesktop/systemd1"
DBUS_UNIT = ROOT + "/unit/dbus_2eservice"


def direct(fleet, name, *arguments):
    """The answer of the machine's own bus, asked from inside it."""
    return fleet.machines[name].run("busctl", "--no-pager", *arguments)


def strip(fleet, name, text, service=SYSTEMD):
    """TEXT with the mirror's prefix taken off its object paths."""
    return text.replace(fleet.path(name, service, ""), "")


class Signals:
    """gdbus monitor on the mirror; wait() takes lines until one matches."""

    def __init__(self, fleet):
        self.process = subprocess.Popen(["gdbus", "monitor", "--session", "--dest", NAME], stdout=subprocess.PIPE, text=True,
                                        env=fleet.environment, stdin=subprocess.DEVNULL)
        self.lines = []
        self.wait("is owned by")

    def wait(self, *words, timeout=20):
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                self.lines.append(line)
                if all(word in line for word in words):
                    return line
        finally:
            timer.cancel()
        raise AssertionError(f"no signal with {words} within {timeout} s; the last were {self.lines[-5:]}")

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def signals(fleet):
    with contextlib.closing(Signals(fleet)) as watching:
        yield watching


@pytest.mark.parametrize("name", ["web1", "web2"])
def test_a_call_gives_the_machines_own_answer(fleet, name):
    arguments = (MANAGER, "GetDefaultTarget")
    assert fleet.busctl("call", NAME, fleet.path(name), *arguments) == direct(fleet, name, "call", SYSTEMD, ROOT, *arguments)


@pytest.mark.parametrize("name", ["web1", "web2"])
def test_a_returned_object_path_can_be_called(fleet, name):
    path = fleet.busctl("call", NAME, fleet.path(name), MANAGER, "GetUnit", "s", "dbus.service").split('"')[1]
    assert path == fleet.path(name, below=DBUS_UNIT)
    mirrored = fleet.busctl("get-property", NAME, path, UNIT, "Id", "InvocationID", "ActiveEnterTimestamp")
    assert mirrored == direct(fleet, name, "get-property", SYSTEMD, DBUS_UNIT, UNIT, "Id", "InvocationID", "ActiveEnterTimestamp")


def test_every_property_of_a_unit_is_the_machines_own(fleet):
    def get_all(text):
        return {k: v for k, v in json.loads(text)["data"][0].items() if not re.search("Memory|CPU|Tasks|IP|IO", k)}
    mirrored = fleet.busctl("--json=short", "call", NAME, fleet.path("web1", below=DBUS_UNIT), "org.freedesktop.DBus.Properties", "GetAll",
                            "s", UNIT)
    own = direct(fleet, "web1", "--json=short", "call", SYSTEMD, DBUS_UNIT, "org.freedesktop.DBus.Properties", "GetAll", "s", UNIT)
    assert get_all(strip(fleet, "web1", mirrored)) == get_all(own)


def test_paths_in_a_list_of_units_are_translated_and_names_are_not(fleet):
    mirrored = json.loads(fleet.busctl("--json=short", "call", NAME, fleet.path("web1"), MANAGER, "ListUnits"))["data"][0]
    own = json.loads(direct(fleet, "web1", "--json=short", "call", SYSTEMD, ROOT, MANAGER, "ListUnits"))["data"][0]
    paths = {unit[0]: unit[6] for unit in mirrored}
    assert len(mirrored) > 20
    for unit in own:
        if unit[0] in paths:  # transient scopes of this very question come and go
            assert paths[unit[0]] == fleet.path("web1", below=unit[6])


def test_an_object_path_argument_loses_its_prefix(fleet):
    # GetUnitByControlGroup takes a string that looks like a path: it must stay as it is.
    mirrored = fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "GetUnitByControlGroup", "s", "/system.slice/dbus.service")
    assert mirrored == f'o "{fleet.path("web1", below=DBUS_UNIT)}"\n'


def test_an_error_comes_back_verbatim(fleet):
    mirrored = fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "GetUnit", "s", "nosuch.service", check=False)
    own = subprocess.run(fleet.machines["web1"].enter("busctl", "call", SYSTEMD, ROOT, MANAGER, "GetUnit", "s", "nosuch.service"),
                         text=True, capture_output=True, check=False)
    assert mirrored.returncode == own.returncode == 1
    assert mirrored.stderr == own.stderr


def test_a_property_can_be_set(fleet):
    path = fleet.path("web2")
    try:
        fleet.busctl("set-property", NAME, path, MANAGER, "LogLevel", "s", "debug")
        assert direct(fleet, "web2", "get-property", SYSTEMD, ROOT, MANAGER, "LogLevel") == 's "debug"\n'
        assert direct(fleet, "web1", "get-property", SYSTEMD, ROOT, MANAGER, "LogLevel") == 's "info"\n'
    finally:
        fleet.busctl("set-property", NAME, path, MANAGER, "LogLevel", "s", "info")


def test_a_transient_unit_runs_and_its_job_signals_arrive(fleet, signals):
    fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", "cbus-test.service", "fail", "1",
                 "ExecStart", "a(sasb)", "1", "/bin/sleep", "2", "/bin/sleep", "100", "false", "0")
    line = signals.wait(".JobRemoved ", "cbus-test.service")
    assert line.startswith(fleet.path("web1") + ":") and "'done'" in line
    assert fleet.path("web1", below="/org/freedesktop/systemd1/job/") in line
    unit = fleet.path("web1", below="/org/freedesktop/systemd1/unit/cbus_2dtest_2eservice")
    assert fleet.busctl("get-property", NAME, unit, UNIT, "ActiveState") == 's "active"\n'
    fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "StopUnit", "ss", "cbus-test.service", "fail")
    signals.wait(unit, "PropertiesChanged", "'inactive'")


def test_browsing_lists_what_the_machine_has_and_starts_nothing(fleet):
    before = direct(fleet, "web1", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", "org.freedesktop.timedate1")
    tree = fleet.busctl("tree", "--list", NAME).split()
    assert fleet.path("web1", below=DBUS_UNIT) in tree
    assert fleet.path("web2", "org.freedesktop.login1", "/org/freedesktop/login1") in tree
    assert fleet.path("web1", "org.freedesktop.timedate1", "") in tree
    own = direct(fleet, "web1", "tree", "--list", SYSTEMD).split()
    mirrored = {p for p in tree if p.startswith(fleet.path("web1", below=""))}
    assert len(mirrored) >= len(own) - 5  # units of the very question come and go
    after = direct(fleet, "web1", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", "org.freedesktop.timedate1")
    assert before == after == "b false\n"


def test_a_call_starts_an_activatable_service(fleet):
    path = fleet.path("web2", "org.freedesktop.hostname1", "/org/freedesktop/hostname1")
    assert fleet.busctl("get-property", NAME, path, "org.freedesktop.hostname1", "Hostname") == 's "web2"\n'


def test_introspection_of_a_unit_shows_the_machines_own_interfaces(fleet):
    def members(text):
        return {tuple(line.split()[:3]) for line in text.splitlines()[1:]}
    mirrored = members(fleet.busctl("introspect", NAME, fleet.path("web1", below=DBUS_UNIT)))
    own = members(direct(fleet, "web1", "introspect", SYSTEMD, DBUS_UNIT))
    assert mirrored == own


def test_a_machine_tells_who_it_is(fleet):
    path = f"/ie/bmcgee/CBus/{fleet.nkeys['web1']}"
    get = lambda prop: fleet.busctl("get-property", NAME, path, "ie.bmcgee.CBus1.Machine", prop).strip()  # noqa: E731
    assert get("Name") == 's "web1"'
    assert get("NamePinned") == "b true"
    assert get("State") == 's "online"'
    assert get("MachineId") == f's "{fleet.machines["web1"].run("cat", "/etc/machine-id").strip()}"'
    # As its unit sees it: in a container the confinement of a unit uncovers the host's id, which nspawn had covered.
    agent = fleet.machines["web1"].run("systemctl", "show", "-P", "MainPID", "cbus-agent.service").strip()
    boot_id = fleet.machines["web1"].run("cat", f"/proc/{agent}/root/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    assert get("BootId").replace("-", "") == f's "{boot_id}"'
    assert int(fleet.busctl("call", NAME, path, "ie.bmcgee.CBus1.Machine", "Ping").split()[1]) > 0


def test_a_machine_whose_agent_stops_is_offline_and_comes_back(fleet, signals):
    machine = fleet.machines["web2"]
    path = f"/ie/bmcgee/CBus/{fleet.nkeys['web2']}"
    machine.run("systemctl", "stop", "cbus-agent")
    signals.wait(path, "PropertiesChanged", "'Online': <false>", timeout=5)
    failed = fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "GetDefaultTarget", check=False)
    assert failed.returncode != 0 and "web2" in failed.stderr
    machine.run("systemctl", "start", "cbus-agent")
    signals.wait(path, "PropertiesChanged", "'Online': <true>")
    assert fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "GetDefaultTarget") == 's "multi-user.target"\n'


def test_an_agent_killed_in_mid_call_answers_it_within_three_seconds(fleet):
    machine = fleet.machines["web2"]
    hostname = ("get-property", NAME, fleet.path("web2", "org.freedesktop.hostname1", "/org/freedesktop/hostname1"),
                "org.freedesktop.hostname1", "Hostname")
    fleet.busctl(*hostname)  # hostnamed runs now, and is stopped so that it never answers
    hostnamed = machine.run("systemctl", "show", "-P", "MainPID", "systemd-hostnamed").strip()
    machine.run("kill", "-STOP", hostnamed)
    call = subprocess.Popen(["busctl", "--user", *hostname], env=fleet.environment, stderr=subprocess.PIPE, text=True)
    try:
        # A call that was sent after it and is answered: so it was sent, too.
        fleet.busctl("get-property", NAME, fleet.path("web2"), MANAGER, "Version")
        machine.run("pkill", "-KILL", "-x", "cbus-agent")
        _, error = call.communicate(timeout=3)
        assert call.returncode != 0
        assert "web2" in error
    finally:
        call.kill()
        machine.run("kill", "-KILL", hostnamed)
    fleet.wait_online()


def test_the_journal_has_one_record_for_each_event(fleet):
    machine = fleet.machines["web2"]
    machine.run("systemctl", "restart", "cbus-agent")
    fleet.wait_online()
    # Records with an id are the audit's.
    records = [json.loads(line) for line in machine.run("journalctl", "--no-pager", "-o", "json", "-u", "cbus-agent").splitlines()]
    invocation = machine.run("systemctl", "show", "-P", "InvocationID", "cbus-agent").strip()
    records = [r for r in records if r.get("_SYSTEMD_INVOCATION_ID") == invocation and "MESSAGE_ID" not in r]
    links = [r for r in records if r["MESSAGE"] == "link accepted"]
    assert len(links) == 1 and links[0]["CBUS_PROXY"].startswith("U") and len(links[0]["CBUS_PROXY"]) == 56
    assert links[0]["SYSLOG_IDENTIFIER"] == "cbus-agent" and links[0]["PRIORITY"] == "6"
    starts = [r for r in records if r["MESSAGE"].endswith(" starts")]
    assert len(starts) == 1 and starts[0]["CBUS_MACHINE"] == fleet.nkeys["web2"]
    assert len(records) <= 5, [r["MESSAGE"] for r in records]


def test_systemds_signals_come_back_after_it_was_executed_anew(fleet, signals):
    # PID 1 forgets who subscribed; nobody on this side asks it again.
    machine = fleet.machines["web2"]
    machine.run("systemctl", "daemon-reexec")
    fleet.wait_online()
    fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "Subscribe")
    fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", "again.service", "fail", "1",
                 "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0")
    signals.wait(fleet.path("web2") + ":", ".JobRemoved ", "again.service")
    fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "Unsubscribe")
    fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", "third.service", "fail", "1",
                 "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0")
    signals.wait(fleet.path("web2") + ":", ".JobRemoved ", "third.service")


def test_a_reply_with_a_descriptor_is_refused_at_once(fleet):
    refused = fleet.busctl("--timeout=10", "call", NAME, fleet.path("web1", "org.freedesktop.login1", "/org/freedesktop/login1"),
                           "org.freedesktop.login1.Manager", "Inhibit", "ssss", "sleep", "test", "test", "block", check=False)
    assert refused.returncode == 1
    assert "descriptors" in refused.stderr and "web1" in refused.stderr, refused.stderr
    # Nobody holds it: the descriptor was closed on the way.
    assert "web1" not in direct(fleet, "web1", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
                                "org.freedesktop.login1.Manager", "ListInhibitors").replace("a(ssssuu) 0", "")


def test_a_machine_on_dbus_broker_is_driven_all_the_same(broker_fleet):
    fleet = broker_fleet
    path = fleet.busctl("call", NAME, fleet.path("broker1"), MANAGER, "GetUnit", "s", "dbus-broker.service").split('"')[1]
    assert fleet.busctl("get-property", NAME, path, UNIT, "ActiveState") == 's "active"\n'
    assert fleet.path("broker1", below=ROOT + "/unit/dbus_2dbroker_2eservice") in fleet.busctl("tree", "--list", NAME)


def test_both_daemons_end_within_a_second_of_sigterm(broker_fleet):
    fleet = broker_fleet
    fleet.proxy.send_signal(signal.SIGTERM)
    assert fleet.proxy.wait(1) == 0
    fleet.start_proxy()
    fleet.wait_online()
    machine = fleet.machines["broker1"]
    machine.run("timeout", "1.5", "systemctl", "stop", "cbus-agent")
    assert machine.run("systemctl", "show", "-P", "Result", "cbus-agent").strip() == "success"
    machine.run("systemctl", "start", "cbus-agent")
    wait_for(lambda: "online" in run(str(fleet.cbus), "machines", "--bus", fleet.session.address), "broker1 to be back")
