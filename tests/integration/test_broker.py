"""What a hostile broker, or any of its users, can do to a link: see less than it sends, make it begin anew, and no more."""
import contextlib
import random
import time

import pytest
from broker import RawNats, Relay
from gi.repository import GLib
from stack import Stack, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
OFFLINE = "ie.bmcgee.CBus1.Error.Offline"
HELLO, WELCOME, PACKET, PRESENCE = 1, 2, 3, 4


def kind(payload):
    return payload[5] if len(payload) >= 8 and payload[:4] == b"CBUS" else 0


@pytest.fixture
def raw(own):
    """A stack, an eavesdropper on it, and what it heard of a whole handshake and some calls."""
    with contextlib.closing(RawNats(own.nats.port)) as client:
        client.subscribe("cbus.v1.>")
        own.proxy.terminate()
        own.start_proxy()
        own.wait_online()
        own.call("Notify", "(s)", "once")
        wait_for(lambda: {kind(p) for _s, _r, p in client.seen} >= {HELLO, WELCOME, PACKET, PRESENCE}, "every kind of message")
        yield client


def survives(own, calls, raw):
    """The link that CALLS hang on was not ended, and works."""
    raw.flush()
    assert own.call("Echo", "(v)", GLib.Variant("s", "still here")) == ("still here",)
    own.client.call("ie.bmcgee.CBus", own.machine, "ie.bmcgee.CBus1.Machine", "Ping")
    assert not any(calls), calls
    assert own.property("Online") is True
    assert own.call("Notified")[0].count("once") == 1


def test_garbage_and_truncated_packets_on_every_subject(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    chance = random.Random(1)
    subjects = {subject for subject, _reply, _payload in raw.seen} | {reply for _subject, reply, _payload in raw.seen if reply}
    assert {s.split(".")[3] if s.count(".") > 2 else s.split(".")[2] for s in subjects} == {"in", "out", "here", "gone", "who"}
    payloads = [p for _s, _r, p in raw.seen]
    for subject in subjects:
        for size in (0, 1, 7, 8, 47, 48, 72, 143, 144, 145, 5000):
            raw.publish(subject, chance.randbytes(size))
        for payload in payloads[:40]:
            raw.publish(subject, payload)
            for cut in (8, 24, 32, 47, len(payload) - 1):
                raw.publish(subject, payload[:cut])
            raw.publish(subject, payload + b"\0")
    survives(own, calls, raw)


def test_every_packet_with_a_bit_flipped_is_dropped(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    for subject, _reply, payload in list(raw.seen):
        for position in range(0, min(len(payload), 160)):
            changed = bytearray(payload)
            changed[position] ^= 1 << (position % 8)
            if kind(payload) != PRESENCE or position < 40:  # another instance is tried: see the next tests
                raw.publish(subject, bytes(changed))
    survives(own, calls, raw)


def test_nothing_replayed_is_taken_again(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    for _ in range(3):
        for subject, reply, payload in list(raw.seen):
            raw.publish(subject, payload, reply)
        raw.flush()
    survives(own, calls, raw)


def test_a_replayed_hello_gets_a_welcome_and_no_more(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    subject, _reply, hello = next(m for m in raw.seen if kind(m[2]) == HELLO)
    own.proxy.process.send_signal(19)
    try:
        raw.flush()
        del raw.seen[:]
        raw.publish(subject, hello, "elsewhere.reply")
        raw.subscribe("elsewhere.>")
        wait_for(lambda: any(kind(p) == WELCOME for _s, _r, p in raw.seen), "the welcome")
    finally:
        own.proxy.process.send_signal(18)
    welcomes = [s for s, _r, p in raw.seen if kind(p) == WELCOME]
    assert len(welcomes) == 1 and ".out." in welcomes[0]
    survives(own, calls, raw)


def test_forged_farewells_and_no_responders_end_nothing(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    subject, _reply, presence = next(m for m in raw.seen if kind(m[2]) == PRESENCE)
    gone = next(reply for _subject, reply, _payload in raw.seen if ".gone." in reply)
    farewell = presence[:64] + b"\1" + presence[65:]
    for _ in range(20):
        raw.publish(subject, farewell)
        raw.no_responders([gone])
    # And by the thousand, as fast as the broker takes them.
    for _ in range(5):
        raw.publish_all([(subject, "", farewell)] * 2000)
        raw.no_responders([gone] * 2000)
        survives(own, calls, raw)
    time_of_doubt = time.monotonic() + 1.5
    own.client.wait(lambda: time.monotonic() > time_of_doubt, "suspicion to pass", 5)
    survives(own, calls, raw)


def test_presence_of_an_instance_that_is_not_there_ends_nothing(own, raw):
    calls = [own.start("Hang") for _ in range(5)]
    subject, _reply, presence = next(m for m in raw.seen if kind(m[2]) == PRESENCE)
    for number in range(30):
        raw.publish(subject, presence[:40] + bytes([number]) * 16 + presence[56:])
    raw.flush()
    time_of_doubt = time.monotonic() + 6.5
    own.client.wait(lambda: time.monotonic() > time_of_doubt, "the attempts to fail", 10)
    survives(own, calls, raw)
    assert own.property("State") == "online"
    assert own.property("LastError") == ""


# ---- a relay between the agent and the broker: "out" is what the agent sends, "in" what the proxy sent ----


@pytest.fixture
def relayed():
    with Stack() as stack, contextlib.closing(Relay(stack.nats.port)) as relay:
        stack.agent.terminate()
        stack.agent_url = relay.url
        stack.start_agent()
        stack.wait_online()
        stack.relay = relay
        yield stack
        relay.hook = None
        stack.stop()


def once(change, direction):
    """A hook that gives the first packet of DIRECTION to CHANGE, and lets all others pass."""
    done = []

    def hook(way, _subject, _reply, payload):
        if way == direction and kind(payload) == PACKET and not done:
            done.append(payload)
            return change(payload)
        return [payload]

    hook.done = done
    return hook


def flip(payload):
    return [payload[:-20] + bytes([payload[-20] ^ 4]) + payload[-19:]]


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("change", [lambda p: [], flip, lambda p: [p[:-1]]], ids=["lost", "flipped", "truncated"])
def test_a_damaged_packet_ends_the_link_at_once_and_answers_every_call(relayed, change, direction):
    calls = [relayed.start("Hang") for _ in range(10)]
    assert relayed.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    relayed.relay.hook = hook = once(change, direction)
    began = time.monotonic()
    calls += [relayed.start("Notify", "(s)", f"n{number}") for number in range(5)]
    relayed.client.wait(lambda: all(calls), "every answer", 10)
    assert hook.done
    assert time.monotonic() - began < 4
    errors = [split_error(call[0]) for call in calls if isinstance(call[0], GLib.Error)]
    assert len(errors) >= 10
    for name, message in errors:
        assert name in (DBUS_ERROR + "NoReply", OFFLINE)
        assert "web1" in message
    relayed.wait_online()
    notes = relayed.call("Notified")[0]
    assert len(notes) == len(set(notes))
    assert relayed.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)


def test_packets_that_arrive_twice_count_once(relayed):
    relayed.relay.hook = lambda _way, _subject, _reply, payload: [payload, payload] if kind(payload) == PACKET else [payload]
    calls = [relayed.start("Hang") for _ in range(10)]
    for number in range(50):
        relayed.call("Notify", "(s)", f"n{number}")
    assert relayed.call("Notified")[0] == [f"n{number}" for number in range(50)]
    assert not any(calls)


def test_packets_out_of_order_end_the_link_and_no_call_is_lost(relayed):
    held = []

    def swap(way, _subject, _reply, payload):
        if way != "out" or kind(payload) != PACKET:
            return [payload]
        if not held:
            held.append(payload)
            return []
        return [payload, held[0]] if len(held) == 1 and not held.append(b"") else [payload]

    relayed.relay.hook = swap
    calls = [relayed.start("Notify", "(s)", f"n{number}") for number in range(200)]
    relayed.client.wait(lambda: all(calls), "every answer", 10)
    relayed.relay.hook = None
    relayed.wait_online()
    notes = relayed.call("Notified")[0]
    assert len(notes) == len(set(notes))
    for number, call in enumerate(calls):
        if not isinstance(call[0], GLib.Error):
            assert f"n{number}" in notes
        elif split_error(call[0])[0] == OFFLINE:
            assert f"n{number}" not in notes


def test_last_words_that_are_lost_are_said_again(relayed):
    """As in a cluster: the agent's connection breaks, the proxy's lives, and there is a subscriber so that no 503 tells."""
    calls = [relayed.start("Hang") for _ in range(10)]
    assert relayed.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    said = []

    def lose_the_first(way, subject, _reply, payload):
        if way == "out" and ".out." in subject and kind(payload) == PACKET:
            said.append(payload)
            return [] if len(said) == 1 else [payload]
        return [payload]

    with contextlib.closing(RawNats(relayed.nats.port)) as onlooker:
        onlooker.subscribe("cbus.v1.*.in.*")
        relayed.relay.cut()
        relayed.relay.hook = lose_the_first
        relayed.client.wait(lambda: all(calls), "every answer", 5)
    for call in calls:
        assert split_error(call[0])[0] == DBUS_ERROR + "NoReply"
    assert said[0] == said[1]
    relayed.wait_online()
    assert relayed.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)


def test_handshakes_that_lose_a_flight_are_tried_again(relayed):
    lost = []

    def hook(_way, _subject, _reply, payload):
        # Of each kind the first is lost: hello, welcome, finish.
        if kind(payload) in (HELLO, WELCOME, PACKET) and kind(payload) not in lost:
            lost.append(kind(payload))
            return []
        return [payload]

    relayed.relay.hook = hook
    relayed.proxy.terminate()
    relayed.start_proxy()
    relayed.wait_online(timeout=60)
    assert set(lost) == {HELLO, WELCOME, PACKET}
