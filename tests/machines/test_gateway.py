"""The gateway of a booted machine, driven by NATS's own client: systemd itself, and polkit for the gateway's user."""
import json
import pathlib
import sys

import pytest
from fleet import Fleet
from machine import MachineError
from programs import wait_for

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from plain import Plain  # noqa: E402

SYSTEMD = "org_freedesktop_systemd1.org.freedesktop.systemd1"
PROBE = SYSTEMD + ".unit.probe_2eservice"
CALLED = "3e56d66ecb2841848a8e5338d9876c73"
OPENED = "9489776a77cc430aac8600cb358ee2d4"


@pytest.fixture(scope="module", params=["dbus-daemon", "dbus-broker"])
def fleet(request):
    with Fleet(["gateway1"], bus=request.param) as running:
        running.machines["gateway1"].write("etc/systemd/system/probe.service", "[Service]\nExecStart=/bin/sleep 1000\n")
        running.machines["gateway1"].run("systemctl", "daemon-reload")
        yield running


@pytest.fixture(scope="module")
def plain(fleet):
    client = Plain(fleet.nats.url)
    yield client
    client.close()


def records(fleet, identity, *matches):
    text = fleet.machines["gateway1"].run("journalctl", "--no-pager", "-o", "json", f"MESSAGE_ID={identity}",
                                          "CBUS_PROXY=gateway", *matches)
    return [json.loads(line) for line in text.splitlines()]


def served_as(fleet, plain, user):
    """The machine has a gateway with the ready-made policy "units", as USER. A function that requests."""
    machine = fleet.machines["gateway1"]
    machine.write("etc/cbus/agent.conf", f"[gateway]\nuser={user}\npolicy=units\n")
    machine.run("systemctl", "restart", "cbus-agent")

    def request(rest, arguments="", **headers):
        return plain.request(f"dbus.agent.{fleet.nkeys['gateway1']}.{rest}", arguments, **headers)

    def opened():
        try:
            return records(fleet, OPENED, f"CBUS_USER={user}") and request(f"{SYSTEMD}.prop.Version").code == 200
        except (ConnectionError, MachineError):
            return False

    wait_for(opened, f"a gateway as {user}")
    return request


def test_systemd_is_driven_and_heard(fleet, plain):
    request = served_as(fleet, plain, "root")
    following = plain.subscribe(f"dbus.signals.{fleet.nkeys['gateway1']}.*.{SYSTEMD.split('.', 1)[1]}")
    job = request(f"{SYSTEMD}.method.StartUnit", ["probe.service", "replace"])
    assert job.code == 200 and job.json[0].startswith("/org/freedesktop/systemd1/job/"), job
    seen = following()
    while seen.headers["Member"] != "JobRemoved" or seen.json[1] != job.json[0]:
        seen = following()
    assert (seen.headers["Signature"], seen.json[2:]) == ("uoss", ["probe.service", "done"])
    assert request(f"{PROBE}.prop.ActiveState").json == "active"
    assert request(f"{PROBE}.method.GetAll", ["org.freedesktop.systemd1.Unit"]).json[0]["Id"]["data"] == "probe.service"
    # What docs/gateway.md shows: of a service that has to be started first.
    hostname = "org_freedesktop_hostname1.org.freedesktop.hostname1"
    assert request(f"{hostname}.prop.Hostname").json == "gateway1"
    assert request("org_freedesktop_hostname1.method.GetMachineId", Interface="org.freedesktop.DBus.Peer").json == [
        (fleet.machines["gateway1"].root / "etc/machine-id").read_text().strip()]
    assert request(f"{SYSTEMD}.method.GetUnit", ["probe.service"]).json == ["/org/freedesktop/systemd1/unit/probe_2eservice"]
    denied = request(f"{SYSTEMD}.method.Reexecute")
    assert denied.code == 403 and "policy units does not allow it" in denied.error, denied
    record = wait_for(lambda: records(fleet, CALLED, "CBUS_MEMBER=StartUnit"), "the record")[0]
    assert (record["CBUS_USER"], record["CBUS_VERDICT"]) == ("root", "allowed") and "CBUS_LINK" not in record


def test_polkit_decides_for_its_user(fleet, plain):
    request = served_as(fleet, plain, "nobody")
    assert request(f"{SYSTEMD}.prop.Version").code == 200
    refused = request(f"{SYSTEMD}.method.StopUnit", ["probe.service", "replace"])
    assert refused.code == 403 and refused.json["error"].endswith(("InteractiveAuthorizationRequired", "AccessDenied")), refused
    assert "policy units" not in refused.error
    assert records(fleet, OPENED, "CBUS_USER=nobody")[0]["CBUS_UID"] == fleet.machines["gateway1"].run("id", "-u", "nobody").strip()


def test_a_user_that_comes_later(fleet, plain):
    machine = fleet.machines["gateway1"]
    machine.write("etc/cbus/agent.conf", "[gateway]\nuser=later\npolicy=units\n")
    log = lambda: machine.run("journalctl", "--no-pager", "-o", "cat", "-u", "cbus-agent", "-n", "20")  # noqa: E731
    wait_for(lambda: 'there is no user "later" on this machine: there is no gateway' in log(), "the fault")

    def served():
        try:
            return plain.request(f"dbus.agent.{fleet.nkeys['gateway1']}.{SYSTEMD}.prop.Version").code == 200
        except ConnectionError:
            return False

    wait_for(lambda: not served(), "the other user's gateway to end")
    machine.run("useradd", "--no-create-home", "later")
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=HUP", "cbus-agent")
    wait_for(served, "a gateway as later")
    assert records(fleet, OPENED, "CBUS_USER=later")
