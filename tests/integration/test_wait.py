"""cbus wait: until a property has a value, by signals."""
import json

import pytest
from gi.repository import GLib

from fleet import Fleet
from stack import NAME, ROOT, TEST, escape, wait_for

ONE = "com.example.One"
OBJECT = "/com/example/Test"


@pytest.fixture
def fleet():
    with Fleet() as running:
        yield running
        running.stop()


def set_level(fleet, nkey, level):
    fleet.client.call(NAME, f"{ROOT}/{nkey}/{escape(ONE)}{OBJECT}", "org.freedesktop.DBus.Properties", "Set", "(ssv)", TEST, "Level",
                      GLib.Variant("u", level))


def listening(fleet, process):
    """Until it has read the property: then it has subscribed, too."""
    def count():
        assert process.poll() is None, process.communicate()
        names = fleet.client.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames")[0]
        return len([name for name in names if name.startswith(":")]) >= 3
    wait_for(count, "cbus wait to connect")
    # What it asked went through the proxy before what we ask now, twice over.
    for _ in range(3):
        fleet.cbus("get", ONE, OBJECT, f"{TEST}.Level", "--nkeys", "web1,web2")


def test_it_waits_for_all_machines(fleet):
    process = fleet.start_cbus("wait", ONE, OBJECT, "Level", "7", "--nkeys", "web1,web2", "--timeout", "20")
    listening(fleet, process)
    set_level(fleet, fleet.nkey, 7)
    set_level(fleet, fleet.web2.nkey, 6)
    assert process.poll() is None
    set_level(fleet, fleet.web2.nkey, 7)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "") and out.count("u 7") == 2


def test_what_holds_already_ends_at_once_and_any_needs_one(fleet):
    assert fleet.cbus("wait", ONE, OBJECT, "Level", "1", "--nkeys", "web1,web2", "--timeout", "20", timeout=10).returncode == 0
    set_level(fleet, fleet.web2.nkey, 9)
    result = fleet.cbus("wait", ONE, OBJECT, "Level", "u 9", "--nkeys", "web1,web2", "--any", "--json", "--timeout", "20", timeout=10)
    assert result.returncode == 0, result.stderr
    assert [row["name"] for row in json.loads(result.stdout)["machines"]] == ["web2"]


def test_when_the_time_is_up_who_is_missing_is_named_with_its_value(fleet):
    result = fleet.cbus("wait", ONE, OBJECT, f"{TEST}.Level", "8", "--nkeys", "web1,gone1", "--timeout", "0.5")
    assert result.returncode == 1
    assert "web1" in result.stderr and "but u 1" in result.stderr and "gone1" in result.stderr


def test_a_machine_that_comes_later_counts(fleet):
    fleet.web2.agent.terminate()
    fleet.wait_machine(fleet.web2, False)
    process = fleet.start_cbus("wait", ONE, OBJECT, f"{TEST}.Level", "1", "--nkeys", "web1,web2", "--timeout", "25")
    listening(fleet, process)
    fleet.web2.start_agent()
    out, err = process.communicate(timeout=25)
    assert process.returncode == 0, err


def test_words_that_are_wrong_are_2(fleet):
    assert fleet.cbus("wait", ONE, OBJECT, "Level").returncode == 2
    assert fleet.cbus("wait", ONE, OBJECT, "Level", "1", "2").returncode == 2
    assert fleet.cbus("wait", ONE, OBJECT, "Level", "1", "--timeout", "-1").returncode == 2
