"""cbus wait: until a property has a value, by signals."""
import contextlib
import json
import subprocess
import time

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


def test_a_service_that_comes_back_with_the_value_counts(fleet):
    """What a new process has, no signal tells; and the service can be activated, so that the machine always lists it."""
    def call(member, *args):
        return fleet.client.call(NAME, f"{ROOT}/{fleet.nkey}/{escape('com.example.Lazy')}{OBJECT}", *member, *args)

    call(("org.freedesktop.DBus.Properties", "Set"), "(ssv)", TEST, "Level", GLib.Variant("u", 9))
    process = fleet.start_cbus("wait", "com.example.Lazy", OBJECT, f"{TEST}.Level", "1", "--nkeys", "web1", "--timeout", "20")
    listening(fleet, process)
    with pytest.raises(GLib.Error):
        call((TEST, "Crash"))
    assert process.poll() is None
    call((TEST, "Flags"))
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "") and "u 1" in out


def test_nothing_falls_between_reading_and_listening(fleet):
    """The value comes at any moment of the beginning: it has to be seen."""
    begin = time.monotonic()
    assert fleet.cbus("wait", ONE, OBJECT, f"{TEST}.Level", "1", "--nkeys", "web1,web2").returncode == 0
    whole = time.monotonic() - begin
    for number in range(40):
        process = fleet.start_cbus("wait", ONE, OBJECT, f"{TEST}.Level", str(number + 100), "--nkeys", "web1,web2", "--timeout", "10")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(whole * (0.4 + number / 40))
        for nkey in (fleet.nkey, fleet.web2.nkey):
            set_level(fleet, nkey, number + 100)
        out, err = process.communicate(timeout=15)
        assert (process.returncode, err) == (0, ""), number


def test_it_listens_to_its_property_alone(fleet):
    process = fleet.start_cbus("wait", ONE, OBJECT, f"{TEST}.Level", "7", "--nkeys", "web1", "--timeout", "20")
    listening(fleet, process)
    rules = fleet.client.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Debug.Stats", "GetAllMatchRules")[0]
    own = [rule for rules in rules.values() for rule in rules if f"sender='{NAME}'" in rule]
    assert len(own) == 4 and all(f"{ROOT}/{fleet.nkey}" in rule for rule in own)
    set_level(fleet, fleet.nkey, 7)
    assert process.wait(10) == 0
    process.communicate()


def test_words_that_are_wrong_are_2(fleet):
    assert fleet.cbus("wait", ONE, OBJECT, "Level").returncode == 2
    assert fleet.cbus("wait", ONE, OBJECT, "Level", "1", "2").returncode == 2
    assert fleet.cbus("wait", ONE, OBJECT, "Level", "1", "--timeout", "-1").returncode == 2
