"""What NATS users without a key can not bring about: a dead machine online, a genuine operator kept out; and wrong clocks,
which nobody needs a key for."""
import contextlib
import os
import pathlib
import time

import pytest
from broker import RawNats
from gi.repository import GLib
from stack import BUILD, Stack, wait_for

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
