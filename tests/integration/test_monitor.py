"""cbus monitor: what machines emit, by machine and in their own terms; and what is missing."""
import json
import os
import select
import time

import pytest

from fleet import Fleet
from stack import TEST

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


def test_a_machine_that_goes_is_told(fleet, monitor):
    seen = monitor("member='Emitted'")
    fleet.db1.agent.terminate()
    seen.until(lambda: "db1 -- state: offline" in seen.text)
    fleet.db1.start_agent()
    seen.until(lambda: "db1 -- state: online" in seen.text, 20)
    fleet.wait_machine(fleet.db1, True)


def test_a_rule_that_is_none_is_2(fleet):
    result = fleet.cbus("monitor", "interface=")
    assert result.returncode == 2 and "interface=" in result.stderr
