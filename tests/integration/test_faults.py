"""What the mirror promises when something breaks: every call is answered, by the error that says what is known."""
import contextlib
import os
import socket
import time

from broker import RawNats
from gi.repository import Gio, GLib
from stack import NAME, TEST, Client, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
OFFLINE = "ie.bmcgee.CBus1.Error.Offline"
PATH = "/com/example/Test"


def answered(stack, calls, timeout):
    """(name, message) of each of CALLS, all of which must be answered by an error within TIMEOUT seconds."""
    stack.client.wait(lambda: all(calls), f"{sum(not c for c in calls)} answers", timeout)
    assert all(isinstance(call[0], GLib.Error) for call in calls)
    return [split_error(call[0]) for call in calls]


def hang(stack, count=10):
    """COUNT calls that arrived and will not be answered."""
    calls = [stack.start("Hang") for _ in range(count)]
    assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    return calls


def test_a_service_that_crashes_in_mid_call(own):
    calls = hang(own)
    name, _message = own.error("Crash")
    assert name == DBUS_ERROR + "NoReply"
    for name, _message in answered(own, calls, 3):
        assert name == DBUS_ERROR + "NoReply"
    wait_for(lambda: own.error("Echo")[0] == DBUS_ERROR + "UnknownObject", "the name to be gone")
    own.service.kill()
    own.start_service()
    own.wait_online()
    assert own.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)


def test_the_agent_is_killed(own):
    calls = hang(own)
    own.agent.kill()
    began = time.monotonic()
    for name, message in answered(own, calls, 3):
        assert name == DBUS_ERROR + "NoReply"
        assert "web1" in message and own.nkey in message and "the other side seems to be gone" in message, message
        assert "outcome is unknown: look before you repeat it" in message
    assert time.monotonic() - began < 3
    own.wait_state("offline", 3)
    assert "the other side seems to be gone" in own.property("LastError")
    assert own.property("Online") is False
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 2))
    assert name == OFFLINE
    assert "web1" in message and own.nkey in message and "seems to be gone" in message and "check cbus-agent there" in message
    own.start_agent()
    own.wait_online()
    assert own.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)


def test_the_agent_is_killed_while_somebody_listens_to_everything(own):
    """The broker does not say that nobody is there, so it takes the ten seconds of the pings."""
    with contextlib.closing(RawNats(own.nats.port)) as listener:
        listener.subscribe("cbus.v1.>")
        calls = hang(own)
        own.agent.kill()
        for name, message in answered(own, calls, 14):
            assert name == DBUS_ERROR + "NoReply"
            assert "web1" in message
        # Its last presence is young enough to be tried for a while.
        assert own.state() in ("connecting", "offline")
        own.wait_state("offline", 20)
        assert own.property("LastError") != ""
    own.start_agent()
    own.wait_online()


def test_the_broker_is_killed_and_started_again_in_mid_load(own):
    calls = hang(own)
    own.nats.kill()
    for name, message in answered(own, calls, 3):
        assert name == DBUS_ERROR + "NoReply"
        assert "web1" in message and own.nats.url in message and "outcome is unknown: look before you repeat it" in message
    own.wait_state("offline", 3)
    assert own.nats.url in own.property("LastError")
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 2))
    assert name == OFFLINE
    assert "web1" in message and own.nats.url in message and "the NATS server between" in message
    own.nats.start()
    own.wait_online()
    assert own.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)


def test_no_call_is_lost_or_run_twice_while_the_broker_comes_and_goes(own):
    calls = []
    for number in range(300):
        if number == 50:
            assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
        elif number == 100:
            own.nats.kill()
        elif number == 200:
            own.nats.start()
            own.wait_online()
        calls.append(own.start("Notify", "(s)", str(number)))
    own.client.wait(lambda: all(calls), "every answer", 20)
    notes = own.call("Notified")[0]
    assert len(notes) == len(set(notes))
    for number, call in enumerate(calls):
        if not isinstance(call[0], GLib.Error):
            assert str(number) in notes
            continue
        name, _message = split_error(call[0])
        assert name in (OFFLINE, DBUS_ERROR + "NoReply")
        if name == OFFLINE:
            assert str(number) not in notes
    assert not isinstance(calls[0][0], GLib.Error) and not isinstance(calls[-1][0], GLib.Error)


def machine_changes(own):
    return [values[1] for path, _i, _m, values in own.client.signals
            if path == own.machine and values[0] == "ie.bmcgee.CBus1.Machine"]


def last_errors(own):
    return [changed["LastError"] for changed in machine_changes(own) if "LastError" in changed]


def test_the_remote_bus_is_killed_and_started_again(own):
    calls = hang(own)
    own.client.watch(member="PropertiesChanged", path_prefix=own.machine)
    own.remote.kill()
    for name, message in answered(own, calls, 3):
        assert name == DBUS_ERROR + "NoReply"
        assert "web1" in message and "machine's bus" in message and "outcome is unknown: look before you repeat it" in message
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 2))
    assert name in (OFFLINE, DBUS_ERROR + "NoReply"), (name, message)
    assert "web1" in message
    own.client.wait(lambda: last_errors(own), "the machine's LastError")
    assert all(text.startswith("its bus can not be reached: ") for text in last_errors(own))
    assert own.property("LastError") == last_errors(own)[-1]
    assert own.state() == "online"
    own.service.kill()
    own.remote.start()
    own.start_service()
    own.wait_online()
    assert own.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)
    assert own.property("LastError") == ""
    own.client.wait(lambda: last_errors(own)[-1] == "", "the machine's LastError to go")
    assert not any({"Online", "State"} & set(changed) for changed in machine_changes(own))


def test_a_machine_whose_bus_is_not_there_yet(own):
    own.agent.terminate()
    own.remote.kill()
    own.start_agent()
    own.wait_state("online")
    for call in (("Echo", "(v)", GLib.Variant("u", 1)), ("Hang",)):
        name, message = own.error(*call)
        assert name == OFFLINE
        assert "web1" in message and own.remote.address in message and "not executed" in message
    assert "ie.bmcgee.CBus1.Machine" in own.introspect(own.machine)
    assert len([line for line in own.proxy.log().splitlines() if "bus can not be reached" in line]) == 1
    own.service.kill()
    own.remote.start()
    own.start_service()
    own.wait_online()
    assert own.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)


def test_an_agent_that_stops_answering(own):
    calls = hang(own, 3)
    own.agent.process.send_signal(19)
    for name, message in answered(own, calls, 15):
        assert name == DBUS_ERROR + "NoReply"
        assert "web1" in message
    own.agent.process.send_signal(18)
    own.wait_online(timeout=30)


def test_signals_and_introspection_come_back_after_a_new_link(own):
    own.introspect(own.path())
    own.agent.kill()
    own.wait_state("offline", 3)
    name, message = own.client.error(NAME, own.path(), "org.freedesktop.DBus.Introspectable", "Introspect")
    assert name == OFFLINE
    assert "web1" in message
    assert "com_2eexample" not in own.introspect(own.machine)
    own.start_agent()
    own.wait_online()
    assert "com" in own.introspect(own.path())
    client = own.new_client()
    client.watch(TEST, "Emitted")
    own.call("Emit", "(o)", "/x")
    client.wait(lambda: len(client.signals) == 2, "both signals")


def test_too_many_calls_are_refused_at_once(own):
    calls = [own.start("Hang") for _ in range(8 * 96 + 40)]
    own.client.wait(lambda: sum(bool(c) for c in calls) >= 40, "the refusals")
    refused = [split_error(call[0]) for call in calls if call]
    assert len(refused) == 40
    for name, message in refused:
        assert name == DBUS_ERROR + "LimitsExceeded"
        assert "web1" in message and "768 calls" in message and "not executed: try again later" in message


def test_the_proxy_stops_in_order_and_answers_what_is_pending(own):
    calls = hang(own, 3)
    began = time.monotonic()
    own.proxy.process.terminate()
    for name, _message in answered(own, calls, 2):
        assert name == DBUS_ERROR + "NoReply"
    assert own.proxy.process.wait(3) == 0
    assert time.monotonic() - began < 2
    own.start_proxy()
    own.wait_online()


class Deaf:
    """A client of a bus that asks for all signals and never reads one."""

    def __init__(self, bus):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(bus.directory / "bus"))
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        assert self.socket.makefile("rb", buffering=0).readline().startswith(b"OK ")
        for serial, (member, body) in enumerate((("Hello", None), ("AddMatch", GLib.Variant("(s)", ("type='signal'",)))), 1):
            call = Gio.DBusMessage.new_method_call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", member)
            call.set_serial(serial)
            if body is not None:
                call.set_body(body)
            self.socket.sendall(call.to_blob(Gio.DBusCapabilityFlags.NONE))

    def close(self):
        self.socket.close()


def test_a_local_subscriber_that_never_reads_costs_signals_and_no_answer(own):
    """The bus stops reading from the proxy then; what gathers in the proxy has a bound, and what is lost is counted."""
    own.proxy.terminate()
    own.session.kill()
    own.session.config.write_text(own.session.config.read_text().replace(
        '<limit name="max_incoming_bytes">1000000000<', '<limit name="max_incoming_bytes">33554432<'))
    own.session.start()
    own.start_proxy()
    own.client = own.new_client()
    own.wait_online()
    direct, portal = Client(own.remote.address), Client(own.property("BusAddress"))
    with contextlib.closing(Deaf(own.session)):
        for _ in range(60):
            direct.call("com.example.One", PATH, TEST, "Flood", "(uu)", 4, 1 << 20)
            # As much again by a channel that takes turns with the signals': by then they are through, too.
            portal.connection.call_sync("com.example.One", PATH, TEST, "Bytes", GLib.Variant("(u)", (4 << 20,)), None, 0, 15000, None)
        calls = [own.start("Echo", "(v)", GLib.Variant("u", number)) for number in range(5)]
    own.client.wait(lambda: all(calls), "every answer", 40)
    for number, call in enumerate(calls):
        # An answer for which there was no room is an error that says so.
        assert call[0] == (number,) or split_error(call[0])[0] == DBUS_ERROR + "LimitsExceeded", call
    for client in (direct, portal):
        client.close()
    lost = own.property("SignalsLost")
    assert 0 < lost < 480  # each of 240 appears below two names
    assert own.call("Echo", "(v)", GLib.Variant("u", 9)) == (9,)
    assert own.property("State") == "online"
