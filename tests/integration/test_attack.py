"""What NATS users without a key can not bring about: a dead machine online, a genuine operator kept out; and wrong clocks,
which nobody needs a key for."""
import contextlib
import os
import pathlib
import struct
import time

import pytest
from broker import RawNats
from gi.repository import GLib
from stack import BUILD, Program, Stack, wait_for

HELLO, WELCOME, PACKET, PRESENCE = 1, 2, 3, 4


def kind(payload):
    return payload[5] if len(payload) >= 8 and payload[:4] == b"CBUS" else 0


def heard(stack, raw):
    """Everything of a proxy's start, from hello to a call."""
    raw.subscribe("cbus.v1.>")
    stack.proxy.terminate()
    stack.start_proxy()
    stack.wait_online()
    stack.call("Echo", "(v)", GLib.Variant("u", 1))
    wait_for(lambda: {kind(p) for _s, _r, p in raw.seen} >= {HELLO, WELCOME, PACKET, PRESENCE}, "every kind of message")
    return list(raw.seen)


def test_a_dead_machine_is_never_online_whatever_is_forged(own):
    with contextlib.closing(RawNats(own.nats.port)) as eavesdropper:
        seen = heard(own, eavesdropper)
    # Who listens to everything is a responder to the broker, and would delay what is waited for here.
    with contextlib.closing(RawNats(own.nats.port)) as raw:
        call = own.start("Hang")
        own.call("Echo", "(v)", GLib.Variant("u", 1))
        own.agent.kill()
        own.client.wait(lambda: call, "the answer", 5)
        own.wait_state("offline", 5)
        raw.subscribe("cbus.v1.*.in")
        states = []
        here, _reply, presence = next(m for m in seen if kind(m[2]) == PRESENCE)
        until = time.monotonic() + 6

        def forge():
            """The dead one's own presence, that of a new start, and everything that it ever said."""
            for instance in (presence[40:56], os.urandom(16)):
                raw.publish(here, presence[:40] + instance + presence[56:])
            for subject, _r, payload in seen:
                if ".out." in subject:
                    raw.publish(subject, payload)
            # A welcome for whatever hello comes, as good as it gets without the key.
            for _s, _r, hello in [m for m in list(raw.seen) if kind(m[2]) == HELLO][-3:]:
                welcome = next(p for _s, _r, p in seen if kind(p) == WELCOME)
                out = next(s for s, _r, p in seen if kind(p) == WELCOME)
                raw.publish(out, welcome[:8] + hello[:32] + welcome[40:])
            states.append((own.property("State"), own.property("Online")))
            return time.monotonic() > until

        wait_for(forge, "the end", 20)
        assert ("online", True) not in states and not any(online for _state, online in states)
        assert {state for state, _online in states} <= {"offline", "connecting"}
        own.start_agent()
        own.wait_online(timeout=40)


def test_a_hundred_thousand_forged_packets_end_no_link(own):
    """Right link id, right subjects, numbers from the next one on: what an eavesdropper can know, at both ends."""
    calls = [own.start("Hang") for _ in range(5)]
    forged, rounds = b"forged!!", 20

    def overhear():
        """The link's id, and the number that comes next on each subject."""
        with contextlib.closing(RawNats(own.nats.port)) as raw:
            raw.subscribe("cbus.v1.>")
            own.call("Echo", "(v)", GLib.Variant("u", 1))
            wait_for(lambda: {s.split(".")[3] for s, _r, p in list(raw.seen) if kind(p) == PACKET} == {"in", "out"}, "both ways")
            packets = [(s, p) for s, _r, p in list(raw.seen) if kind(p) == PACKET]
        return packets[0][1][8:24], {s: struct.unpack(">Q", p[24:32])[0] + 1 for s, p in packets}

    with contextlib.closing(RawNats(own.nats.port)) as raw:
        for number in range(rounds):
            link, expected = overhear()
            sealed = os.urandom(100) + forged
            raw.publish_all([(subject, "", b"CBUS\1\3\0\0" + link + struct.pack(">Q", ahead) + os.urandom(8) + sealed)
                             for subject, after in expected.items()
                             for ahead in (after, after + 1, after + 5000, 2**64 - 1)
                             for _ in range(100_000 // rounds // 8)])
            assert own.call("Echo", "(v)", GLib.Variant("u", number)) == (number,)
    own.client.call("ie.bmcgee.CBus", own.machine, "ie.bmcgee.CBus1.Machine", "Ping")
    assert not any(calls)
    assert own.agent.log().count("link accepted") == 1 and "link ended" not in own.agent.log()
    assert own.property("Online") is True


def test_nothing_is_taken_by_another_machine_or_after_a_restart(own):
    """Everything that was ever said between one machine and its operators, said to another and to its next start."""
    second = Program("second", own.directory)
    own.stack.callback(second.kill)

    def start_second():
        second.spawn([BUILD / "agent/cbus-agent", "--nats", own.nats.url, "--key", own._key("other"), "--authorized-keys",
                      own.authorized, "--bus", own.remote.address, "--name", "second"])

    def second_online():
        return [path for path, values in own.client.call("ie.bmcgee.CBus", "/ie/bmcgee/CBus", "org.freedesktop.DBus.ObjectManager",
                                                         "GetManagedObjects")[0].items()
                if values["ie.bmcgee.CBus1.Machine"]["Online"] and path != own.machine]

    start_second()
    wait_for(second_online, "the second machine")
    with contextlib.closing(RawNats(own.nats.port)) as eavesdropper:
        seen = heard(own, eavesdropper)
    wait_for(second_online, "the second machine")
    calls = [own.start("Hang") for _ in range(5)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    own.call("Notify", "(s)", "once")
    accepted = [program.log().count("link accepted") for program in (own.agent, second)]
    subjects = sorted({subject for subject, _r, _p in seen if ".here" not in subject})
    assert len({s.split(".")[2] for s in subjects} | {own.nkey}) == len({s.split(".")[2] for s in subjects}) >= 3  # both, and "who"
    with contextlib.closing(RawNats(own.nats.port)) as raw:
        for subject in subjects:
            raw.publish_all([(subject, reply, payload) for _s, reply, payload in seen])
        assert own.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)
        assert not any(calls)
        assert accepted == [program.log().count("link accepted") for program in (own.agent, second)]
        # A new start of both ends knows nothing of it either.
        own.agent.kill()
        own.client.wait(lambda: all(calls), "the answers", 5)
        own.wait_state("offline", 5)
        own.start_agent()
        own.proxy.terminate()
        own.start_proxy()
        own.wait_online()
        accepted = own.agent.log().count("link accepted")
        for subject in subjects:
            raw.publish_all([(subject, reply, payload) for _s, reply, payload in seen])
        assert own.call("Notified")[0] == ["once"]
        own.client.call("ie.bmcgee.CBus", own.machine, "ie.bmcgee.CBus1.Machine", "Ping")
    assert own.agent.log().count("link accepted") == accepted
    assert own.property("Online") is True


def test_hellos_in_an_operators_name_by_the_thousand_do_not_keep_that_operator_out(own):
    with contextlib.closing(RawNats(own.nats.port)) as raw:
        subject, _reply, hello = next(m for m in heard(own, raw) if kind(m[2]) == HELLO)
        own.proxy.terminate()
        for _ in range(10000):
            raw.publish(subject, hello[:112] + os.urandom(31) + b"\1")
        raw.flush()
        own.start_proxy()
        own.wait_online(timeout=30)
        # And in the thick of it a link that is there stays.
        call = own.start("Hang")
        for _ in range(5000):
            raw.publish(subject, hello[:112] + os.urandom(31) + b"\1")
        raw.flush()
        assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
        assert not call and own.property("Online") is True


FAKETIME = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


SANITIZED = b"__asan_init" in (BUILD / "agent/cbus-agent").read_bytes()


@pytest.mark.skipif(FAKETIME is None, reason="no faketime installed")
@pytest.mark.skipif(SANITIZED, reason="the sanitizer has to be the first of the preloaded libraries")
@pytest.mark.parametrize("agent, proxy", [("@1970-01-02 00:00:00", "+0"), ("+3650d", "+0"), ("+0", "@1970-01-02 00:00:00"),
                                          ("@1970-01-02 00:00:00", "+3650d")],
                         ids=["agent-1970", "agent-ahead", "proxy-1970", "both-wrong"])
def test_clocks_that_are_years_off_change_nothing(agent, proxy):
    class Skewed(Stack):
        def _at(self, when, start):
            self.environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": when, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                                "TZ": "UTC"}
            start()

        def start_agent(self, bus=None):
            self._at(agent, lambda: super(Skewed, self).start_agent(bus))

        def start_proxy(self):
            self._at(proxy, super().start_proxy)

    with Skewed() as stack:
        assert stack.call("Echo", "(v)", GLib.Variant("s", "hello")) == ("hello",)
        off = stack.property("LastSeen") / 1e6 - time.time()
        assert abs(off) > 300_000_000 if proxy != "+0" else abs(off) < 60
        calls = [stack.start("Hang")]
        stack.call("Echo", "(v)", GLib.Variant("u", 1))
        stack.agent.kill()
        stack.client.wait(lambda: all(calls), "the answer", 5)
        stack.wait_state("offline", 5)
        stack.start_agent()
        stack.wait_online()
        stack.stop()
