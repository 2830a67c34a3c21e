"""Agents and proxies against the other end of a link made by hand: operators that stop, change or repeat a step of the
handshake while the machine's files change, and machines that say of themselves what no agent would."""
import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gi.repository import GLib
from handmade import Machine, Operator, call, key_of, texts
from link_text import CLOSE, FINISH, MESSAGE, OPEN, OPENED, PACKET, REFUSED, SERVERINFO, WELCOME, string, vectors
from stack import BUILD, NAME, ROOT, wait_for

DENIED = "org.freedesktop.DBus.Error.AccessDenied"


def public_of(file):
    return vectors.public(key_of(file))


@pytest.fixture
def operator(stack):
    """A second process of the stack's operator, made by hand."""
    with contextlib.closing(Operator(stack.nats.port, public_of(stack.machine_key), key_of(stack.operator_key))) as made:
        yield made
    restore(stack)


def accepted(stack):
    return stack.agent.log().count("link accepted")


def authorize(stack, *lines):
    """Replaces authorized-keys; returns once it is in force: other links have ended and finishes are judged by it."""
    before = len(stack.agent.log())
    write(stack, *lines)
    wait_for(lambda: "authorized keys" in stack.agent.log()[before:], "authorized-keys to be in force")


def write(stack, *lines):
    fresh = stack.authorized.with_name("fresh")
    fresh.write_text("".join(f"{line}\n" for line in lines))
    fresh.chmod(0o600)
    fresh.rename(stack.authorized)


def line_of(stack):
    return stack.operator_key.with_suffix(".pub").read_text().strip()


def restore(stack):
    """The operator's plain line, and a real proxy that has nothing to be patient about."""
    other_line = stack.authorized.read_text().strip() != line_of(stack)
    if other_line:
        authorize(stack, line_of(stack))
    # One that is online may not have heard yet that its link ended with its line.
    if other_line or stack.state() != "online":
        stack.proxy.terminate()
        stack.start_proxy()
    stack.wait_online()


# ---- operators ----


def test_a_link_made_by_hand_works_as_any(stack, operator):
    name, _machine, _boot, _version = operator.link()
    assert name == "remote-host"
    operator.open_channel()
    operator.call(call("com.example.One", "/com/example/Test", "com.example.Test", "Sender", serial=2))
    assert operator.answers(2) == [None]


def test_a_key_that_goes_between_hello_and_finish_gets_no_link(stack, operator):
    finish = operator.half_open()
    before = accepted(stack)
    authorize(stack, "# nobody")
    operator.send(operator.session.seal(finish))
    record, channel, payload = operator.records(SERVERINFO, REFUSED)
    assert (record, channel, texts(payload)[0]) == (REFUSED, 0, DENIED)
    # Nor by saying it again, nor by going on as if nothing were.
    operator.send(operator.session.seal(finish))
    operator.send(operator.session.seal(vectors.record(OPEN, bytes(8), 1)))
    stack.wait_state("unauthorized")
    authorize(stack, line_of(stack))
    operator.link()
    restore(stack)
    assert accepted(stack) == before + 1 + 1  # the real proxy's, too


def test_a_line_that_changes_between_hello_and_finish_is_the_one_that_counts(stack, operator):
    finish = operator.half_open()
    authorize(stack, f'policy="readonly" {line_of(stack)}')
    operator.send(operator.session.seal(finish))
    assert operator.records(SERVERINFO, REFUSED)[0] == SERVERINFO
    operator.open_channel()
    operator.call(call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                       "(su)", ("com.example.Stolen", 0), serial=2),
        call("com.example.One", "/com/example/Test", "com.example.Test", "Sender", serial=3),
        call("com.example.One", "/com/example/Test", "org.freedesktop.DBus.Properties", "Get", "(ss)",
             ("com.example.Test", "Level"), serial=4))
    assert operator.answers(2, 3, 4) == [DENIED, DENIED, None]


def test_a_finish_that_overtakes_the_new_line_gets_no_channel_of_the_old_one(stack, operator):
    finish = operator.half_open()
    before = len(stack.agent.log())
    stack.agent.process.send_signal(signal.SIGSTOP)
    try:
        write(stack, f'policy="readonly" {line_of(stack)}', "no-such-option")
        # The connector has the file, and the process that lets in does not know yet.
        wait_for(lambda: "line refused" in stack.agent.log()[before:], "the connector to read authorized-keys")
        operator.send(operator.session.seal(finish))
        operator.send(operator.session.seal(
            vectors.record(OPEN, b"\xff\xff\xff\xff\0\0\0\0", 1),
            *(vectors.record(MESSAGE, blob, 1) for blob in (
                call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"),
                call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "(su)",
                     ("com.example.Stolen", 0), serial=2)))))
        operator.raw.flush()
    finally:
        stack.agent.process.send_signal(signal.SIGCONT)
    assert operator.records(SERVERINFO, REFUSED)[0] == SERVERINFO
    record, channel, payload = operator.records(OPENED, CLOSE)
    if record == OPENED:
        assert operator.answers(1, 2) == [None, DENIED]
    else:
        while channel == 1:
            record, channel, payload = operator.records(OPENED, CLOSE, MESSAGE)
        assert (record, channel) == (CLOSE, 0) and "line was changed" in texts(payload)[1]


def test_half_open_links_of_a_key_that_is_gone_never_become_one(stack, operator):
    waiting = []
    for _ in range(4):
        finish = operator.half_open()
        waiting.append(operator.session.seal(finish))
    before = accepted(stack)
    authorize(stack, "# nobody")
    for packet in waiting:
        operator.send(packet)
    operator.send(os.urandom(100))
    stack.wait_state("unauthorized")
    operator.raw.flush()
    assert accepted(stack) == before


def test_a_link_ends_within_a_second_when_its_line_goes_whatever_it_does(stack, operator):
    operator.link()
    operator.open_channel()
    authorize(stack, "# nobody")
    record, channel, payload = operator.records(CLOSE, timeout=1)
    assert channel == 0 and "not authorized any more" in texts(payload)[1]
    # The keys still seal; nobody opens it.
    operator.call(call("com.example.One", "/com/example/Test", "com.example.Test", "Notify", "(s)", ("late",), serial=9))
    operator.raw.flush()
    restore(stack)
    assert "late" not in stack.call("Notified")[0]


def test_half_open_links_of_a_key_are_four_and_the_oldest_goes(stack, operator):
    waiting = []
    for _ in range(6):
        finish = operator.half_open()
        waiting.append((operator.session, operator.session.seal(finish)))
    before = accepted(stack)
    for session, packet in waiting[:2]:
        operator.send(packet)
    operator.raw.flush()
    operator.session, packet = waiting[2]
    operator.send(packet)
    assert operator.records(SERVERINFO, REFUSED)[0] == SERVERINFO
    assert accepted(stack) == before + 1


def test_links_of_a_key_are_bounded(stack, operator):
    """108 of one key; who comes later is told, and gets in when one has gone. Other keys do not notice."""
    key = Ed25519PrivateKey.generate()

    def another():
        return crowd.enter_context(contextlib.closing(Operator(stack.nats.port, operator.agent, key, operator.agent_instance)))

    def insist(one):
        # The agent looks at 32 hellos a second in one name.
        while True:
            try:
                hello = one.make_hello()
                one.say(hello)
                while (welcome := one.next(WELCOME, timeout=0.3))[8:40] != vectors.H(hello)[:32]:
                    pass  # late, to a hello before
            except AssertionError:
                continue
            transcript = one.take(hello, welcome)
            one.send(one.session.seal(one.finish_record(transcript)))
            return one.records(SERVERINFO, CLOSE)

    with contextlib.ExitStack() as crowd:
        members = [another() for _ in range(108)]
        authorize(stack, line_of(stack), members[0].nkey)
        for member in members:
            assert insist(member)[0] == SERVERINFO
        late = another()
        record, channel, payload = insist(late)
        assert (record, channel) == (CLOSE, 0) and "too many proxies with this key" in texts(payload)[1]
        assert "link refused" in stack.agent.log()
        operator.link()
        members[0].send(members[0].session.seal(vectors.record(CLOSE, string("") + string("done"), 0)))
        members[0].raw.flush()
        assert insist(late)[0] == SERVERINFO
        # With the line the links go: nothing of them is left to who comes after.
        authorize(stack, line_of(stack))
        assert members[-1].records(CLOSE)[1] == 0
    assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def test_half_open_links_of_all_are_256_and_last_ten_seconds(stack, operator):
    with contextlib.ExitStack() as strangers:
        crowd = [strangers.enter_context(contextlib.closing(Operator(stack.nats.port, operator.agent, instance=operator.agent_instance)))
                 for _ in range(64)]
        finish = operator.half_open()
        pushed_out = operator.session.seal(finish)
        for stranger in crowd:
            for _ in range(4):
                said(stranger)
        for stranger in crowd:
            stranger.raw.flush()
        before = accepted(stack)
        crowd[-1].next(WELCOME)
        operator.send(pushed_out)
        # The last to come are there: theirs is the place of the first.
        finish = operator.half_open()
        late, session, began = operator.session.seal(finish), operator.session, time.monotonic()
        operator.link()
        assert accepted(stack) == before + 1
    wait_for(lambda: time.monotonic() > began + 11.5, "the half-open link to expire")
    operator.session = session
    operator.send(late)
    operator.link()
    assert accepted(stack) == before + 2


def test_no_packet_before_finish_has_an_effect(stack, operator):
    finish = operator.half_open()
    operator.send(operator.session.seal(vectors.record(OPEN, bytes(8), 1)))
    operator.send(operator.session.seal(finish))
    before = accepted(stack)
    assert operator.link()[0] == "remote-host"
    assert accepted(stack) == before + 1


def test_a_finish_is_good_for_one_link_once(stack, operator):
    """Said twice, to another half-open link, under another operator's signature, after a restart of the agent."""
    first = operator.session_of(hello := said(operator))
    packet = operator.session.seal(first)
    kept = operator.session
    stranger = Ed25519PrivateKey.generate()
    operator.half_open()
    before = accepted(stack)
    operator.send(packet[:8] + operator.session.link_id + packet[24:])
    operator.send(operator.session.seal(vectors.record(FINISH, first[12:])))  # the other transcript's signature
    finish = operator.half_open()
    operator.send(operator.session.seal(vectors.record(FINISH, stranger.sign(vectors.sshsig_preimage(b"proxy", bytes(64))))))
    operator.raw.flush()
    operator.send(packet)
    operator.session = kept
    assert operator.records(SERVERINFO, REFUSED)[0] == SERVERINFO
    assert accepted(stack) == before + 1
    for _ in range(3):
        operator.send(packet)
    stack.agent.kill()
    stack.wait_state("offline")
    stack.start_agent()
    stack.wait_online()
    count = accepted(stack)
    operator.heard = len(operator.raw.seen)
    for _ in range(3):
        operator.say(hello)
        operator.send(packet)
    operator.raw.publish("cbus.v1.who", b"")
    fresh = wait_for(lambda: next((p[40:56] for _s, _r, p in list(operator.raw.seen)[operator.heard:]
                                   if p[5:6] == b"\4" and p[40:56] != operator.agent_instance), None), "the new agent")
    for _ in range(3):
        operator.send(packet, fresh)
    assert operator.heard_nothing(WELCOME) and operator.heard_nothing(PACKET)
    operator.agent_instance = fresh
    operator.link()
    assert accepted(stack) == count + 1
    assert finish


def said(operator):
    hello = operator.make_hello()
    operator.say(hello)
    return hello


WEAK_EPHEMERALS = [bytes(32), b"\1" + bytes(31), *(bytes([low]) + b"\xff" * 30 + b"\x7f" for low in (0xec, 0xed, 0xee)),
                   bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
                   bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")]
WEAK_IDENTITIES = [bytes(32), b"\1" + bytes(31), b"\2" + bytes(31), bytes(31) + b"\x80",
                   *(bytes([low]) + b"\xff" * 30 + b"\x7f" for low in (0xec, 0xed, 0xee)),
                   bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
                   bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")]


def test_weak_points_and_empty_ranges_in_a_hello_get_no_answer(stack, operator):
    operator.raw.subscribe("cbus.v1.*.out.>")
    operator.raw.flush()
    bad = [operator.make_hello(ephemeral=point) for point in WEAK_EPHEMERALS]
    bad += [operator.make_hello(ephemeral=point[:31] + bytes([point[31] | 0x80])) for point in WEAK_EPHEMERALS]
    bad += [operator.make_hello(proxy=point) for point in WEAK_IDENTITIES]
    bad += [operator.make_hello(versions=pair) for pair in ((0, 1), (0, 0), (2, 1), (255, 1))]
    good = operator.make_hello()
    bad += [good + b"\0", good[:-1], good[:6] + b"\1" + good[7:], good[:106] + b"\1" + good[107:]]
    for hello in bad:
        operator.say(hello)
    assert operator.session_of(said(operator))
    operator.raw.flush()
    own_welcomes = [s for s, _r, p in list(operator.raw.seen) if p[5:6] == bytes([WELCOME]) and operator.instance.hex() in s]
    assert set(own_welcomes) == {f"cbus.v1.{operator.agent_nkey}.out.{operator.nkey}.{operator.instance.hex()}"}
    assert len(own_welcomes) <= 2  # one message, to two subscriptions


def test_versions_are_the_transcripts_and_nobody_elses(stack, operator):
    # Nothing in common: a signed answer, no link.
    hello = operator.make_hello(versions=(2, 255))
    operator.say(hello)
    finish = operator.session_of(hello)
    before = accepted(stack)
    operator.send(operator.session.seal(finish))
    # Ranges that a third party narrowed or widened: the welcome is for another hello than ours.
    hello = operator.make_hello(versions=(1, 7))
    operator.say(hello[:105] + b"\1" + hello[106:])
    welcome = operator.next(WELCOME)
    assert welcome[8:40] != vectors.H(hello)[:32]
    # The highest that both have, and packets that say another one are dropped.
    operator.say(hello)
    finish = operator.session_of(hello)
    packet = operator.session.seal(finish)
    operator.send(packet[:4] + b"\2" + packet[5:])
    operator.send(packet)
    assert operator.records(SERVERINFO, REFUSED)[0] == SERVERINFO
    assert accepted(stack) == before + 1


def test_strangers_learn_it_inside_the_link_ten_times_a_second(stack, operator):
    before, waiting, logged = accepted(stack), [], stack.agent.log().count("link refused")
    with contextlib.ExitStack() as strangers:
        for _ in range(40):
            stranger = strangers.enter_context(contextlib.closing(
                Operator(stack.nats.port, operator.agent, instance=operator.agent_instance)))
            finish = stranger.half_open()
            waiting.append((stranger, stranger.session.seal(finish)))
        # Half-open links last ten seconds: all of them are finished in one go, within a second or at the edge of two.
        for stranger, packet in waiting:
            stranger.send(packet)
        for stranger, _packet in waiting:
            stranger.raw.flush()
        assert operator.link()[0] == "remote-host"  # what came before is judged
        refused = [stranger for stranger, _packet in waiting if not stranger.heard_nothing(PACKET)]
        assert 10 <= len(refused) <= 20
        for stranger in refused:
            record, channel, payload = stranger.records(SERVERINFO, REFUSED)
            assert (record, channel, texts(payload)[0]) == (REFUSED, 0, DENIED)
            assert stranger.heard_nothing(PACKET)
    assert accepted(stack) == before + 1
    # And nobody fills the machine's journal, which holds the audit, with keys that he makes up.
    assert 1 <= stack.agent.log().count("link refused") - logged <= 6


# ---- machines ----


def property_of(stack, nkey, name):
    with contextlib.suppress(GLib.Error):
        return stack.client.call(NAME, f"{ROOT}/{nkey}", "org.freedesktop.DBus.Properties", "Get", "(ss)",
                                 "ie.bmcgee.CBus1.Machine", name)[0]
    return None


def cbus(stack, *words):
    done = subprocess.run([BUILD / "cli/cbus", *words, "--bus", stack.session.address], capture_output=True, timeout=20, check=False,
                          env={**os.environ, "LC_ALL": "C.UTF-8"})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def machine(stack):
    with contextlib.closing(Machine(stack.nats.port)) as made:
        made.accept()
        yield made


HOSTILE = ["web1\x1b[2K\rroot", "\x1b]0;owned\x07", "a\nb", "tab\there", "\u202eweb1", "web1\u200b", "w\u0435b1", "web1 ", " web1", "web1?",
           "../web1", "web1/x", "-web1", "web1.", "x" * 65, "\x9b31mred", "UABCDE", "web\u00ad1", "*", ""]
LOOKALIKES = ["web1", "WEB1", "we-b1", "webl", "WEBI", "vveb1"]


def assert_shown_nowhere(stack, machine, claim):
    """CLAIM, which MACHINE said last, is no name for anybody, and can do no harm where it is quoted."""
    assert property_of(stack, machine.nkey, "Name") == ""
    assert property_of(stack, machine.nkey, "NamePinned") is False
    assert (claim == "") == (property_of(stack, machine.nkey, "LastError") == "")
    assert stack.property("Name") == "web1" and stack.property("NamePinned") is True
    status, table, errors = cbus(stack, "machines")
    assert status == 0, errors
    assert all(character.isprintable() or character == "\n" for character in table + errors)
    rows = table.splitlines()[1:]
    assert sum(row.split()[0] == "web1" for row in rows) == 1
    assert not [row for row in rows if machine.nkey[:5] in row.split()[0] or row.lower().lstrip().startswith("web1") and
                stack.nkey[:5] not in row]
    status, output, errors = cbus(stack, "machines", "--json")
    assert all(character.isprintable() or character == "\n" for character in output)
    names = {entry["NKey"]: entry["Name"] for entry in json.loads(output)}
    assert (names[stack.nkey], names[machine.nkey]) == ("web1", "")


def test_a_name_that_is_none_or_another_ones_is_nowhere_shown_as_its_name(stack, machine):
    for number, claim in enumerate(HOSTILE + LOOKALIKES):
        machine.tell(f"honest{number}")
        wait_for(lambda: property_of(stack, machine.nkey, "Name") == f"honest{number}", "the honest claim to be shown")
        machine.tell(claim, machine_id=claim, boot_id=claim, version=claim)
        wait_for(lambda: property_of(stack, machine.nkey, "Name") == "", f"{claim!a} not to be shown")
        assert_shown_nowhere(stack, machine, claim)
    assert all(character.isprintable() or character == "\n" for character in stack.proxy.log())
    # What is typed is the pinned one.
    status, output, errors = cbus(stack, "get", "com.example.One", "/com/example/Test", "com.example.Test.Level", "--nkeys", "web1")
    assert status == 0 and "u 1" in output, (output, errors)


def test_a_name_can_be_changed_into_no_other_ones_on_a_living_link(stack, machine):
    machine.tell("honest")
    wait_for(lambda: property_of(stack, machine.nkey, "Name") == "honest", "the claim to be shown")
    machine.tell("web1")
    wait_for(lambda: property_of(stack, machine.nkey, "Name") == "", "the claim to be refused")
    assert "web1" in property_of(stack, machine.nkey, "LastError")
    machine.tell("honest")
    wait_for(lambda: property_of(stack, machine.nkey, "Name") == "honest", "the claim to be shown again")
    assert property_of(stack, machine.nkey, "LastError") == ""


@pytest.mark.parametrize("payload", [
    string(b"\xff\xfe") + string("") * 3, string("a\0b") + string("") * 3,
    string("a") * 3, string("a") * 5, string("a" * 5000) + string("") * 3,
    b"\0\0\0\xff" + b"a" * 20, b""], ids=["utf8", "nul", "short", "long", "large", "length", "empty"])
def test_what_a_machine_says_of_itself_is_checked(stack, machine, payload):
    ended = stack.agent.log().count("link ended")
    machine.tell("honest")
    wait_for(lambda: property_of(stack, machine.nkey, "Online"), "the machine to be online")
    machine.raw.publish(machine.out, machine.session.seal(vectors.record(SERVERINFO, payload)))
    wait_for(lambda: not property_of(stack, machine.nkey, "Online"), "the link to end")
    assert stack.property("Online") is True
    assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    assert stack.agent.log().count("link ended") == ended


@pytest.mark.parametrize("record", [(OPENED, 0), (OPEN, 1), (MESSAGE, 77), (FINISH, 0), (99, 0), (REFUSED, 999)], ids=str)
def test_a_machine_that_breaks_the_protocol_loses_its_own_link_alone(stack, machine, record):
    machine.tell("honest")
    wait_for(lambda: property_of(stack, machine.nkey, "Online"), "the machine to be online")
    machine.raw.publish(machine.out, machine.session.seal(vectors.record(record[0], bytes(16), record[1])))
    wait_for(lambda: not property_of(stack, machine.nkey, "Online"), "the link to end")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
