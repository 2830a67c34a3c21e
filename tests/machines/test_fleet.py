"""The command line on booted machines: systemd, asked on all of them at once."""
import json
import os
import subprocess
import threading

from machine import run
from programs import wait_for

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "/org/freedesktop/systemd1"


def start(fleet, *words):
    return subprocess.Popen([str(fleet.cbus), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                            text=True, env={**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": fleet.session.address})


def cbus(fleet, *words):
    process = start(fleet, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def rows(fleet, *words):
    status, out, err = cbus(fleet, *words, "--json")
    assert status == 0, err
    return {row["name"]: row for row in json.loads(out)["machines"]}


def matches(fleet):
    """All that the session bus was asked for."""
    return run("busctl", f"--address={fleet.session.address}", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
               "org.freedesktop.DBus.Debug.Stats", "GetAllMatchRules")


def unit(name):
    return f"{MANAGER}/unit/{name}_2eservice"


def test_a_method_and_a_property_of_all_machines_without_their_interface(fleet):
    status, out, err = cbus(fleet, "invoke", SYSTEMD, MANAGER, "GetDefaultTarget", "--ordered")
    expected = {name: machine.run("systemctl", "get-default").strip() for name, machine in fleet.machines.items()}
    assert (status, err) == (0, "")
    assert out == "".join(f'{name} {fleet.nkeys[name]}\n  s "{expected[name]}"\n' for name in sorted(expected))
    assert all(row == {"nkey": fleet.nkeys[name], "name": name, "ok": True, "type": "s", "data": "active"}
               for name, row in rows(fleet, "get", SYSTEMD, f"{MANAGER}/unit/basic_2etarget", "ActiveState").items())


def test_a_fleet_is_changed_watched_and_waited_for(fleet):
    """A service is started everywhere; what tells of it is what a person would use."""
    monitor = start(fleet, "monitor", f"sender='{SYSTEMD}',path='{MANAGER}',member='JobRemoved',arg2='fleet.service'")
    end = threading.Timer(60, monitor.kill)  # whose lines are waited for below
    end.start()
    waiting = start(fleet, "wait", SYSTEMD, unit("fleet"), f"{SYSTEMD}.Unit.ActiveState", "active", "--timeout", "60")
    try:
        wait_for(lambda: "JobRemoved" in matches(fleet), "the monitor to listen")
        arguments = json.dumps(["fleet.service", "fail", [["Description", {"type": "s", "data": "all of them"}],
                                                          ["RemainAfterExit", {"type": "b", "data": True}],
                                                          ["ExecStart", {"type": "a(sasb)", "data": [["/bin/true", ["true"], False]]}]], []])
        started = rows(fleet, "invoke", SYSTEMD, MANAGER, "StartTransientUnit", "--args-json", arguments)
        assert all(row["type"] == "o" and row["data"][0].startswith(f"{MANAGER}/job/") for row in started.values())
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0 and out.count('s "active"') == len(fleet.names), err
        lines = [monitor.stdout.readline() for _ in fleet.names]
        assert {line.split()[1] for line in lines} == set(fleet.names)
        assert all('"fleet.service" "done"' in line for line in lines)
        value = rows(fleet, "get", SYSTEMD, unit("fleet"), "Description")
        assert {row["data"] for row in value.values()} == {"all of them"}
    finally:
        end.cancel()
        monitor.kill()
        monitor.communicate()
        cbus(fleet, "invoke", SYSTEMD, MANAGER, "StopUnit", "ss", "fleet.service", "replace")
    status, out, err = cbus(fleet, "wait", SYSTEMD, unit("fleet"), f"{SYSTEMD}.Unit.ActiveState", "inactive", "--timeout", "20")
    assert status == 0, err


def test_the_machine_that_is_away_is_named_and_the_other_answers(fleet):
    fleet.machines["web2"].run("systemctl", "stop", "cbus-agent")
    try:
        wait_for(lambda: "offline" in cbus(fleet, "machines")[1], "web2 to be offline")
        status, out, err = cbus(fleet, "get", SYSTEMD, MANAGER, "Version")
        assert status == 1 and "web1" in out and "ie.bmcgee.CBus1.Error.Offline" in out and err.startswith("cbus: web2 ")
    finally:
        fleet.machines["web2"].run("systemctl", "start", "cbus-agent")
        fleet.wait_online()
