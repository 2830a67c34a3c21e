"""cbus monitor: what machines emit, by machine and in their own terms; and what is missing."""
import json
import os
import select
import signal
import time

import pytest

from fleet import Fleet
from stack import NAME, ROOT, TEST, Client, escape, wait_for

ONE = "com.example.One"
OBJECT = "/com/example/Test"


@pytest.fixture(scope="module")
def fleet():
    with Fleet() as running:
        yield running
        running.stop()


class Monitor:
    def __init__(self, fleet, *words):
        self.fleet = fleet
        self.process = fleet.start_cbus("monitor", *words)
        self.text = ""
        # It is there once a signal of ours comes through.
        self.until(lambda: self.nudge() or "nudge" in self.text, 15)

    def nudge(self):
        for machine in ("web1", "db1"):
            self.fleet.cbus("invoke", ONE, OBJECT, f"{TEST}.Emit", "o", "/nudge", "--nkeys", machine)

    def until(self, condition, timeout=10):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, self.text
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                self.text += os.read(self.process.stdout.fileno(), 65536).decode()

    def lines(self):
        return self.text.splitlines()

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def monitor(fleet):
    running = []

    def start(*words):
        running.append(Monitor(fleet, *words))
        return running[-1]

    yield start
    for each in running:
        each.close()


def test_a_line_has_machine_sender_path_and_body_as_on_the_machine(fleet, monitor):
    seen = monitor()
    fleet.cbus("invoke", ONE, OBJECT, "Emit", "o", "/some/where", "--nkeys", "web2")
    seen.until(lambda: "/some/where" in seen.text)
    line = next(line for line in seen.lines() if "/some/where" in line)
    assert line.split(" ", 1)[1] == f'web2 {ONE} {OBJECT} {TEST}.Emitted o "/some/where"'


def test_json_is_one_object_a_line(fleet, monitor):
    seen = monitor("--json")
    fleet.cbus("invoke", ONE, OBJECT, "Emit", "o", "/some/where", "--nkeys", "web2")
    seen.until(lambda: "/some/where" in seen.text and seen.text.endswith("\n"))
    line = next(json.loads(line) for line in seen.lines() if "/some/where" in line)
    assert line.pop("time").endswith("Z")
    assert line == {"nkey": fleet.web2.nkey, "name": "web2", "sender": ONE, "path": OBJECT, "interface": TEST, "member": "Emitted",
                    "type": "o", "data": ["/some/where"]}


def test_machines_and_rules_narrow_it(fleet, monitor):
    seen = monitor("--nkeys", "db1", f"interface='{TEST}',arg0path='/nudge'", "arg0path='/right'")
    for machine, path in (("web1", "/right"), ("db1", "/wrong"), ("db1", "/right")):
        fleet.cbus("invoke", ONE, OBJECT, "Emit", "o", path, "--nkeys", machine)
    seen.until(lambda: "/right" in seen.text)
    assert "web1" not in seen.text and "/wrong" not in seen.text


def match_rules(fleet, process):
    """What the session bus has to deliver to a process, as the bus has noted it down."""
    def call(member, *args):
        return fleet.client.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, *args)[0]

    names = [name for name in call("ListNames") if name.startswith(":") and call("GetConnectionUnixProcessID", "(s)", name) == process.pid]
    rules = fleet.client.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Debug.Stats", "GetAllMatchRules")[0]
    return [rule for rule in rules[names[0]] if f"sender='{NAME}'" in rule]


def test_the_session_bus_is_asked_for_nothing_else(fleet, monitor):
    seen = monitor("--nkeys", "db1", f"sender='{ONE}',path='{OBJECT}',member='Emitted'")
    rules = match_rules(fleet, seen.process)
    local = f"{ROOT}/{fleet.db1.nkey}"
    # The machines there are, the state of this one, and the signal.
    assert len(rules) == 3 and sum(f"path='{ROOT}'" in rule for rule in rules) == 1
    assert sum(f"path='{local}'" in rule and f"arg0='{NAME}1.Machine'" in rule for rule in rules) == 1
    assert sum(f"path='{local}/{escape(ONE)}{OBJECT}'" in rule and "member='Emitted'" in rule for rule in rules) == 1


def pin(fleet, text):
    """Replaces known_machines at once: what is being written names nobody for a moment, which changes more than is meant."""
    fresh = fleet.known_machines.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(fleet.known_machines)


@pytest.mark.parametrize("words", [(), ("--nkeys", "db1,st*"), ("--nkeys", "db1,@late")], ids=["all", "glob", "tag"])
def test_a_machine_that_is_pinned_meanwhile_is_included(fleet, monitor, words):
    before = fleet.known_machines.read_text()
    # A glob and a tag fit somebody, and no machine is away, whose state might change and tell by accident.
    some = f"{fleet.nkey} web1\n{fleet.web2.nkey} steady late\n{fleet.db1.nkey} db1\n"
    try:
        pin(fleet, some)
        wait_for(lambda: fleet.web2.property("Name") == "steady" and fleet.gone not in fleet.cbus("machines", "--json").stdout,
                 "the pins to be others")
        seen = monitor(*words, "member='Emitted'")
        assert not any(fleet.stray.nkey in rule for rule in match_rules(fleet, seen.process))
        pin(fleet, some + f"{fleet.stray.nkey} stray1 late\n")
        wait_for(lambda: any(fleet.stray.nkey in rule for rule in match_rules(fleet, seen.process)), "a rule for it")
        fleet.cbus("invoke", ONE, OBJECT, "Emit", "o", "/from/stray", "--nkeys", fleet.stray.nkey)
        seen.until(lambda: f"stray1 {ONE} {OBJECT} {TEST}.Emitted o \"/from/stray\"" in seen.text)
        pin(fleet, some)
        wait_for(lambda: not any(fleet.stray.nkey in rule for rule in match_rules(fleet, seen.process)), "the rule to go")
    finally:
        pin(fleet, before)
        wait_for(lambda: fleet.web2.property("Name") == "web2", "the pins to be the same as before")


def test_lost_signals_are_told(fleet, monitor):
    """The session bus takes nothing for a while, and the proxy keeps no more than 32 MiB of signals."""
    rule = f"path='{OBJECT}'"
    seen, told = monitor(rule), monitor(rule, "--json")
    machine = Client(fleet.db1.bus.address)
    fleet.session.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(48):
            machine.call(ONE, f"{OBJECT}/child", TEST, "Emit", "(o)", f"/{'x' * (1 << 20)}")
        wait_for(lambda: "signals of a machine are dropped" in fleet.proxy.log(), "signals to be dropped")
    finally:
        fleet.session.process.send_signal(signal.SIGCONT)
        machine.close()
    seen.until(lambda: "db1 -- lost: " in seen.text and seen.text.endswith("\n"))
    told.until(lambda: '"lost"' in told.text and told.text.endswith("\n"))
    line = next(json.loads(line) for line in told.lines() if '"lost"' in line)
    assert line.pop("time").endswith("Z") and line.pop("lost") > 0
    assert line == {"nkey": fleet.db1.nkey, "name": "db1"}
    assert fleet.db1.property("SignalsLost") > 0 and fleet.property("SignalsLost") == 0


def test_a_machine_that_goes_is_told(fleet, monitor):
    seen = monitor("member='Emitted'")
    fleet.db1.agent.terminate()
    seen.until(lambda: "db1 -- state: offline" in seen.text)
    fleet.db1.start_agent()
    seen.until(lambda: "db1 -- state: online" in seen.text, 20)
    fleet.wait_machine(fleet.db1, True)


@pytest.mark.parametrize("rule", ["interface=", "type='method_call'", "sender=':1.5'", "eavesdrop='true'", "destination='a.b'"])
def test_a_rule_that_no_signal_fits_is_2(fleet, rule):
    result = fleet.cbus("monitor", rule)
    assert result.returncode == 2 and rule in result.stderr


def test_a_proxy_that_leaves_and_comes_back_is_told(fleet, monitor):
    seen = monitor("member='Emitted'")
    fleet.proxy.terminate()
    line = seen.process.stderr.readline()
    assert "left the bus" in line
    fleet.start_proxy()
    assert "again" in seen.process.stderr.readline()
    fleet.wait_machine(fleet.db1, True)
    seen.text = ""
    fleet.cbus("invoke", ONE, OBJECT, "Emit", "o", "/after/all", "--nkeys", "db1")
    seen.until(lambda: "/after/all" in seen.text)


def test_without_a_reader_or_a_bus_it_ends(fleet):
    process = fleet.start_cbus("monitor", "--unpinned")
    process.stdout.close()
    def ended():
        fleet.cbus("invoke", ONE, OBJECT, f"{TEST}.Emit", "o", "/nudge", "--nkeys", "web1")
        return process.poll() is not None
    wait_for(ended, "it to end")
    process.stderr.close()
    assert process.returncode != 0
