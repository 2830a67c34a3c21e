"""What the gateway publishes unasked, its answers to $SRV, and what it survives: a lost broker, a lost bus."""
import re
import signal

import pytest
from gi.repository import GLib

from gateway import ONE, PATH, TYPED, TYPED_PATH, Gateway
from plain import spell
from stack import Client, wait_for

DBUS = "org.freedesktop.DBus"
PROPERTIES = DBUS + ".Properties"


@pytest.fixture(scope="module")
def gateway():
    with Gateway() as running:
        yield running
        running.stop()


@pytest.fixture
def own():
    with Gateway() as running:
        yield running
        running.stop()


@pytest.fixture
def local(gateway):
    """A client of the machine's own bus."""
    client = Client(gateway.remote.address)
    yield client
    client.close()


def owner(client, name):
    return client.call(DBUS, "/org/freedesktop/DBus", DBUS, "GetNameOwner", "(s)", name)[0]


def test_a_signal_has_its_headers_and_its_values(gateway, local):
    unique = owner(local, TYPED)
    following = gateway.plain.subscribe("dbus.signals.>")
    local.call(TYPED, TYPED_PATH, TYPED, "Announce", "(x)", 2 ** 53 + 1)
    seen = following()
    while seen.headers["Member"] != "Announced":
        seen = following()
    assert seen.subject == f"dbus.signals.{gateway.nkey}.{spell(unique)}.com.example.Typed"
    assert seen.headers == {"NKey": gateway.nkey, "Sender": unique, "Interface": TYPED, "Member": "Announced",
                            "Path": TYPED_PATH, "Signature": "xva{sv}"}
    assert seen.json == ["9007199254740993", {"type": "as", "data": ["x", "y"]},
                         {"n": {"type": "(ib)", "data": [7, True]}}]


def test_signals_of_one_object_can_be_asked_for(gateway, local):
    following = gateway.plain.subscribe(f"dbus.signals.{gateway.nkey}.*.com.example.Test.child")
    local.call(ONE, PATH, "com.example.Test", "Emit", "(o)", "/not/this")
    local.call(ONE, PATH + "/child", "com.example.Test", "Emit", "(o)", "/this")
    assert following().json == ["/this"]


def test_changes_of_properties_and_owners_are_signals(gateway, local):
    changes = gateway.plain.subscribe(f"dbus.signals.*.{spell(owner(local, TYPED))}.>")
    owners = gateway.plain.subscribe(f"dbus.signals.*.{spell(DBUS)}.org.freedesktop.DBus")
    local.call(TYPED, TYPED_PATH, PROPERTIES, "Set", "(ssv)", TYPED, "Values", GLib.Variant("a{sv}", {"k": GLib.Variant("u", 5)}))
    seen = changes()
    assert (seen.headers["Interface"], seen.headers["Member"]) == (PROPERTIES, "PropertiesChanged")
    value = {"type": "a{sv}", "data": {"k": {"type": "u", "data": 5}}}
    assert seen.json == [TYPED, {"Values": value}, []]
    local.call(ONE, PATH, "com.example.Test", "Own", "(s)", "com.example.New")
    seen = owners()
    while seen.json[0] != "com.example.New":
        seen = owners()
    assert seen.headers["Member"] == "NameOwnerChanged" and seen.json == ["com.example.New", "", owner(local, ONE)]


def test_what_the_policy_hides_is_not_published(gateway, local):
    following = gateway.plain.subscribe("dbus.signals.>")
    local.call("org.example.Hidden", TYPED_PATH, TYPED, "Announce", "(x)", 1)
    local.call(TYPED, TYPED_PATH, TYPED, "Announce", "(x)", 2)
    seen = following()
    while seen.headers["Member"] != "Announced":
        assert seen.headers["Sender"] != owner(local, "org.example.Hidden")
        seen = following()
    assert seen.json[0] == 2


def test_systemd_is_asked_for_its_signals(gateway, local):
    """Whenever it appears: it tells nobody else."""
    following = gateway.plain.subscribe("dbus.signals.*.*.org.freedesktop.systemd1")
    for _ in range(2):
        program = gateway.start_typed("systemd", "org.freedesktop.systemd1")
        assert following().headers["Member"] == "Subscribed"
        program.kill()
    assert "Subscribe" not in gateway.agent.log()  # its own question, not somebody's act


def test_a_flood_is_dropped_and_counted(own):
    """More than may wait for the broker, which does not read meanwhile; calls are answered as before afterwards."""
    local = Client(own.remote.address)
    own.nats.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(4):
            local.call(TYPED, TYPED_PATH, TYPED, "Flood", "(uu)", 50, 100000)
    finally:
        own.nats.process.send_signal(signal.SIGCONT)
    local.close()
    wait_for(own.is_served, "calls again")
    data = wait_for(lambda: own.plain.request("$SRV.STATS.cbus").json, "its numbers")["endpoints"][0]["data"]
    assert data["signals_lost"] > 50 and data["signals"] + data["signals_lost"] >= 200, data


def test_answers_do_not_fill_the_queue_that_links_use(own):
    """They wait in it, too, while the broker does not read."""
    held = [own.plain.begin("request", own.subject("Held", TYPED, TYPED_PATH), "[900000]") for _ in range(40)]
    local = Client(own.remote.address)
    wait_for(lambda: local.call(TYPED, TYPED_PATH, TYPED, "HowManyHeld") == (40,), "all to be held")
    own.nats.process.send_signal(signal.SIGSTOP)
    try:
        local.call(TYPED, TYPED_PATH, TYPED, "LetGo")
        wait_for(lambda: "too many answers wait for the NATS server" in own.agent.log(), "the first to be refused")
    finally:
        own.nats.process.send_signal(signal.SIGCONT)
    local.close()
    answers = [own.plain.end(number)[0] for number in held]
    good, bad = [a for a in answers if a.code == 200], [a for a in answers if a.code == 429]
    assert len(good) + len(bad) == 40 and good and bad, [a.code for a in answers]
    assert all(len(a.json[0]) == 900000 for a in good)
    assert all("the call was executed" in a.error for a in bad)


def test_a_signal_that_is_no_nats_message_is_lost_alone(gateway, local):
    before = gateway.plain.request("$SRV.STATS.cbus").json["endpoints"][0]["data"]["signals_lost"]
    following = gateway.plain.subscribe("dbus.signals.>")
    local.call(TYPED, TYPED_PATH, TYPED, "FarAway", "(u)", 3000)  # a subject that is too long
    local.call(TYPED, TYPED_PATH, TYPED, "Flood", "(uu)", 1, 2000000)  # a body that is
    local.call(TYPED, TYPED_PATH, TYPED, "FarAway", "(u)", 300)
    seen = following()
    while seen.headers["Member"] != "Far":
        seen = following()
    assert seen.headers["Path"] == "/a" * 300 and seen.subject.endswith(".a" * 300)

    def lost():
        return gateway.plain.request("$SRV.STATS.cbus").json["endpoints"][0]["data"]["signals_lost"] >= before + 2

    wait_for(lost, "the loss to be counted")
    assert gateway.is_served() and "NATS is lost" not in gateway.agent.log()


def test_it_is_a_nats_service(gateway):
    who = {"name": "cbus", "id": gateway.nkey, "version": "0.1.0",
           "metadata": {"host": "remote-host", "nkey": gateway.nkey}}
    for subject in ("$SRV.PING", "$SRV.PING.cbus", f"$SRV.PING.cbus.{gateway.nkey}"):
        assert [m.json for m in gateway.plain.many(subject, count=1)] == [{"type": "io.nats.micro.v1.ping_response", **who}]
    info = gateway.plain.request("$SRV.INFO.cbus").json
    assert info == {"type": "io.nats.micro.v1.info_response", **who, "description": "the D-Bus of remote-host",
                    "endpoints": [{"name": "agent", "subject": f"dbus.agent.{gateway.nkey}.>", "queue_group": ""}]}
    gateway.call("Nothing")
    stats = gateway.plain.request("$SRV.STATS.cbus").json
    assert stats["type"] == "io.nats.micro.v1.stats_response" and {k: stats[k] for k in who} == who
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", stats["started"])
    endpoint = stats["endpoints"][0]
    assert 0 < endpoint["num_errors"] < endpoint["num_requests"]
    assert "UnknownMethod" in endpoint["last_error"] or "no method Nothing" in endpoint["last_error"]
    assert endpoint["processing_time"] // endpoint["num_requests"] == endpoint["average_processing_time"] > 0
    # Only services are asked, and no other than these.
    with pytest.raises(ConnectionError, match="no responders"):
        gateway.plain.request("$SRV.PING.other")


def test_the_broker_may_restart(own):
    following = own.plain.subscribe("dbus.signals.>")
    own.nats.kill()
    wait_for(lambda: "NATS is lost" in own.agent.log(), "the loss")
    own.nats.start()
    wait_for(own.is_served, "calls again")
    local = Client(own.remote.address)
    local.call(TYPED, TYPED_PATH, TYPED, "Announce", "(x)", 3)
    local.close()
    seen = following()
    while seen.headers["Member"] != "Announced":
        seen = following()
    assert seen.json[0] == 3


def test_the_bus_may_restart(own):
    hanging = own.plain.begin("request", own.subject("Hang"))
    wait_for(lambda: "called com.example.Test.Hang" in own.agent.log(), "the call")
    own.remote.kill()
    answer = own.plain.end(hanging)[0]
    assert answer.code == 503 and "whether the call was executed is not known" in answer.error, answer
    wait_for(lambda: "the gateway is not connected to the bus" in own.agent.log(), "the loss")
    answer = own.call("Child")
    assert answer.code == 503 and answer.error.startswith("ie.bmcgee.CBus1.Error.Offline: "), answer
    assert "it was not executed" in answer.error
    for program in (own.service, own.typed, own.hidden):
        program.kill()
    own.remote.start()
    own.start_service()
    wait_for(own.is_served, "calls again")
    following = own.plain.subscribe("dbus.signals.>")
    local = Client(own.remote.address)
    local.call(TYPED, TYPED_PATH, TYPED, "Announce", "(x)", 4)
    local.close()
    seen = following()
    while seen.headers["Member"] != "Announced":
        seen = following()
    assert seen.json[0] == 4


def test_a_stop_answers_what_is_under_way(own):
    hanging = own.plain.begin("request", own.subject("Hang"))
    wait_for(lambda: "called com.example.Test.Hang" in own.agent.log(), "the call")
    assert own.agent.terminate() == 0
    answer = own.plain.end(hanging)[0]
    assert answer.code == 503 and "ends: whether" in answer.error, answer
    own.start_agent()
    wait_for(own.is_served, "calls again")
