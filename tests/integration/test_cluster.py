"""ie.bmcgee.CBus1.Cluster: one call to many machines, a row for each, whatever some of them do."""
import signal
import time

import pytest
from gi.repository import Gio, GLib

from fleet import Fleet
from stack import NAME, ROOT, TEST, escape, split_error, wait_for

GET = "(sossasu)"
INVOKE = "(sossavasu)"
OBJECT = "/com/example/Test"
OFFLINE = "ie.bmcgee.CBus1.Error.Offline"


@pytest.fixture(scope="module")
def fleet():
    with Fleet() as running:
        yield running
        running.stop()


def get(fleet, name="Level", nkeys=(), timeout_ms=0, interface=TEST, service="com.example.One"):
    return {row[0]: row[1:] for row in fleet.cluster("Get", GET, service, OBJECT, interface, name, list(nkeys), timeout_ms)}


def invoke(fleet, member, args=(), nkeys=(), timeout_ms=0, **kwargs):
    rows = fleet.cluster("Invoke", INVOKE, "com.example.One", OBJECT, TEST, member, list(args), list(nkeys), timeout_ms, **kwargs)
    return {row[0]: row[1:] for row in rows}


def test_get_asks_all_pinned_machines_and_names_the_offline_one_at_once(fleet):
    before = time.monotonic()
    rows = get(fleet)
    assert time.monotonic() - before < 2
    assert set(rows) == {fleet.nkey, fleet.web2.nkey, fleet.db1.nkey, fleet.gone}
    assert rows[fleet.nkey] == rows[fleet.web2.nkey] == (True, 1, "", "")
    ok, value, name, message = rows[fleet.gone]
    assert (ok, value, name) == (False, "", OFFLINE) and "gone1" in message


def test_machines_can_be_named_pinned_or_not_and_count_once(fleet):
    rows = fleet.cluster("Get", GET, "com.example.One", OBJECT, TEST, "Level", [fleet.stray.nkey, fleet.nkey, fleet.stray.nkey], 0)
    assert [row[0] for row in rows] == [fleet.stray.nkey, fleet.nkey]
    assert all(row[1] for row in rows)


def test_invoke_translates_paths_both_ways_as_the_mirror_does(fleet):
    rows = invoke(fleet, "Child")
    for nkey in (fleet.nkey, fleet.web2.nkey, fleet.db1.nkey):
        assert rows[nkey] == (True, [f"{ROOT}/{nkey}/{escape('com.example.One')}{OBJECT}/child"], "", "")
    local = f"{ROOT}/{fleet.nkey}/{escape('com.example.One')}{OBJECT}"
    rows = invoke(fleet, "SeenPath", [GLib.Variant("o", local)], [fleet.nkey, fleet.web2.nkey])
    assert rows[fleet.nkey] == (True, [OBJECT], "", "")
    assert rows[fleet.web2.nkey][2] == "org.freedesktop.DBus.Error.InvalidArgs"


def test_arguments_and_values_of_any_type_come_whole(fleet):
    value = GLib.Variant("(a{sv}ayx)", ({"k": GLib.Variant("as", ["a", "b"])}, b"bytes", -(1 << 60)))
    rows = invoke(fleet, "Echo", [GLib.Variant("v", value)], [fleet.nkey])
    assert rows[fleet.nkey][1] == [value.unpack()]
    assert invoke(fleet, "Notify", [GLib.Variant("s", "x")], [fleet.nkey])[fleet.nkey] == (True, [], "", "")


def test_errors_of_machines_come_as_they_are(fleet):
    rows = invoke(fleet, "Fail", [GLib.Variant("s", "com.example.Error.Told")])
    assert rows[fleet.db1.nkey] == (False, [], "com.example.Error.Told", "failed as told")
    rows = get(fleet, service="com.example.None")
    assert rows[fleet.nkey][2] == "org.freedesktop.DBus.Error.UnknownObject"


def test_a_method_that_hangs_on_one_machine_delays_nobody_else_and_is_named(fleet):
    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    try:
        before = time.monotonic()
        rows = get(fleet, timeout_ms=1000)
        assert 0.9 < time.monotonic() - before < 5
    finally:
        fleet.web2.agent.process.send_signal(signal.SIGCONT)
    assert rows[fleet.nkey][0] and rows[fleet.db1.nkey][0]
    ok, _value, name, message = rows[fleet.web2.nkey]
    assert not ok and name == "org.freedesktop.DBus.Error.NoReply" and "1000 ms" in message
    fleet.wait_machine(fleet.web2, True)
    assert get(fleet)[fleet.web2.nkey][0]


def test_a_late_answer_is_dropped_and_the_next_call_has_its_own(fleet):
    assert not invoke(fleet, "Hang", (), [fleet.nkey], 100)[fleet.nkey][0]
    assert get(fleet, nkeys=[fleet.nkey])[fleet.nkey] == (True, 1, "", "")


def test_an_agent_that_dies_in_the_middle_has_its_row(fleet):
    result = fleet.client.start(NAME, ROOT, "ie.bmcgee.CBus1.Cluster", "Invoke", INVOKE, "com.example.One", OBJECT, TEST, "Hang",
                                [], [fleet.db1.nkey, fleet.gone], 20000)
    fleet.client.call(NAME, ROOT, "org.freedesktop.DBus.Peer", "Ping")
    wait_for(lambda: fleet.cluster("Get", GET, "com.example.One", OBJECT, TEST, "Level", [fleet.db1.nkey], 0)[0][1], "it to be sent")
    fleet.db1.agent.terminate()
    fleet.client.wait(lambda: result, "the rows", 10)
    rows = {row[0]: row for row in result[0][0]}
    assert rows[fleet.db1.nkey][3] == "org.freedesktop.DBus.Error.NoReply"
    fleet.db1.start_agent()
    fleet.wait_machine(fleet.db1, True)


def test_rows_past_48_mib_are_replaced_and_the_rest_stands(fleet):
    arguments = GLib.Variant(INVOKE, ("com.example.One", OBJECT, TEST, "Bytes", [GLib.Variant("u", 20_000_000)],
                                      [fleet.nkey, fleet.web2.nkey, fleet.db1.nkey], 60000))
    reply = fleet.client.connection.call_sync(NAME, ROOT, "ie.bmcgee.CBus1.Cluster", "Invoke", arguments, None,
                                              Gio.DBusCallFlags.NONE, 60000, None).get_child_value(0)
    rows = [reply.get_child_value(i) for i in range(reply.n_children())]
    # Not unpacked: that would make 40 million Python objects.
    sizes = sorted(row.get_child_value(2).get_size() for row in rows)
    assert sizes[0] < 100 and 20_000_000 < sizes[1] < 20_000_100 and sizes[1] == sizes[2]
    assert [row.get_child_value(3).unpack() for row in rows if not row.get_child_value(1).unpack()] == [
        "org.freedesktop.DBus.Error.LimitsExceeded"]


def test_deep_values_become_rows_that_the_bus_takes(fleet):
    value = GLib.Variant("s", "bottom")
    for _ in range(58):
        value = GLib.Variant("v", value)
    rows = invoke(fleet, "Echo", [value], [fleet.nkey])
    assert rows[fleet.nkey][2] == "org.freedesktop.DBus.Error.LimitsExceeded"


@pytest.mark.parametrize("change", [{"nkeys": ["web1"]}, {"service": "nonsense"}, {"interface": "bad interface"}])
def test_arguments_that_make_no_sense_are_refused_whole(fleet, change):
    with pytest.raises(GLib.Error, match="InvalidArgs"):
        get(fleet, **change)


def test_a_machine_that_is_unknown_has_a_row(fleet):
    nkey = fleet.new_nkey(f"nobody{time.monotonic_ns()}")
    assert get(fleet, nkeys=[nkey])[nkey][2] == "org.freedesktop.DBus.Error.UnknownObject"


def test_an_invoke_that_wants_no_reply_is_executed(fleet):
    message = Gio.DBusMessage.new_method_call(NAME, ROOT, "ie.bmcgee.CBus1.Cluster", "Invoke")
    message.set_body(GLib.Variant(INVOKE, ("com.example.One", OBJECT, TEST, "Notify", [GLib.Variant("s", "silent")], [], 0)))
    message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    fleet.client.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
    wait_for(lambda: all("silent" in invoke(fleet, "Notified")[nkey][1][0] for nkey in (fleet.nkey, fleet.web2.nkey)), "the notes")


def test_calls_of_a_client_that_left_are_given_up(fleet):
    for _ in range(2):
        leaver = fleet.new_client()
        for _ in range(20):
            leaver.start(NAME, ROOT, "ie.bmcgee.CBus1.Cluster", "Invoke", INVOKE, "com.example.One", OBJECT, TEST, "Hang", [],
                         [fleet.nkey], 60000)
        leaver.call(NAME, ROOT, "org.freedesktop.DBus.Peer", "Ping")
        leaver.close()
    wait_for(lambda: get(fleet, nkeys=[fleet.nkey])[fleet.nkey][0], "room for a call")


def test_the_methods_are_introspected(fleet):
    xml = fleet.introspect(ROOT)
    assert 'name="Invoke"' in xml and 'type="a(sbvss)"' in xml


def test_a_machine_that_reads_nothing_slows_nobody_else(fleet):
    """Reading the session bus goes on: what one machine does not take waits in its own queue, and that has a bound."""
    data = GLib.Variant.new_tuple(GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(1 << 20)), True))
    flood = fleet.new_client()
    answers = []

    def done(connection, result):
        try:
            answers.append(connection.call_finish(result).unpack())
        except GLib.Error as error:
            answers.append(split_error(error))

    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(40):
            flood.connection.call(NAME, f"{ROOT}/{fleet.web2.nkey}/{escape('com.example.One')}{OBJECT}", TEST, "Length", data, None,
                                  Gio.DBusCallFlags.NONE, 60000, None, done)
        flood.wait(lambda: answers, "the first refusal")
        for number in range(20):
            before = time.monotonic()
            assert fleet.call("Echo", "(v)", GLib.Variant("u", number)) == (number,)
            assert time.monotonic() - before < 1
        name, message = answers[0]
        assert name == "org.freedesktop.DBus.Error.LimitsExceeded"
        assert "web2" in message and fleet.web2.nkey in message and "not executed: try again later" in message, message
    finally:
        fleet.web2.agent.process.send_signal(signal.SIGCONT)
    # All the others arrive once it reads again, or are answered otherwise; none is left over.
    flood.wait(lambda: len(answers) == 40, "every answer", 40)
    assert sum(answer == (1 << 20,) for answer in answers) > 0
    fleet.wait_machine(fleet.web2, True)
