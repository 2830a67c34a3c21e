"""docs/protocol.md suffices: a second implementation, written from it alone, works with either daemon."""
import contextlib
import pathlib

import pytest
from by_the_text import Agent, Proxy, take_string
from cryptography.hazmat.primitives import serialization
from gi.repository import Gio, GLib
from link_text import CLOSE, vectors
from stack import TEST, Client, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
PATH = "/com/example/Test"


def public_of(key_file):
    return vectors.public(serialization.load_ssh_private_key(key_file.read_bytes(), None))


def blob(size):
    return GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(size)), True)


# ---- our proxy, their agent ----


@pytest.fixture
def proxy(stack):
    with contextlib.closing(Proxy(stack.nats, stack.operator_key, public_of(stack.machine_key))) as running:
        yield running


def test_a_proxy_by_the_text_drives_a_real_agent(stack, proxy):
    name, machine_id, _boot_id, _version = proxy.link()
    assert name == "remote-host" and machine_id == stack.property("MachineId")
    channel, unique = proxy.open()
    assert unique.startswith(":")
    assert proxy.call(channel, "com.example.One", PATH, TEST, "Sender") == (unique,)
    assert proxy.call(channel, "com.example.One", PATH, TEST, "Child") == (PATH + "/child",)
    with pytest.raises(GLib.Error) as caught:
        proxy.call(channel, "com.example.One", PATH, TEST, "Fail", GLib.Variant("(s)", ("com.example.Error.Odd",)))
    assert split_error(caught.value) == ("com.example.Error.Odd", "failed as told")
    other, another = proxy.open()
    assert another != unique
    assert proxy.call(other, "com.example.One", PATH, TEST, "Sender") == (another,)
    proxy.session.control(CLOSE, vectors.string(b"") * 2, channel)
    wait_for(lambda: proxy.call(other, "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner",
                                GLib.Variant("(s)", (unique,))) == (False,), "the connection of the closed channel to go")
    proxy.ping(2**63 + 5)
    assert stack.property("Online") is True


def test_a_proxy_by_the_text_moves_large_messages_on_credit(proxy):
    proxy.link()
    channel, _unique = proxy.open()
    size = 2 * 1024 * 1024
    assert proxy.call(channel, "com.example.One", PATH, TEST, "Length", GLib.Variant.new_tuple(blob(size))) == (size,)
    assert len(proxy.call(channel, "com.example.One", PATH, TEST, "Bytes", GLib.Variant("(u)", (size,)))[0]) == size
    assert proxy.session.window > 32768 and proxy.session.limit > size


def test_a_proxy_by_the_text_rolls_its_keys(proxy):
    proxy.link()
    channel, _unique = proxy.open()
    for number in range(4200):
        proxy.ping(number)
    assert min(proxy.session.numbers) > 4096
    assert proxy.call(channel, "com.example.One", PATH, TEST, "Echo", GLib.Variant("(v)", (GLib.Variant("s", "x"),))) == ("x",)


def test_a_proxy_by_the_text_reads_trees(stack, proxy):
    proxy.link()
    channel, _unique = proxy.open()
    objects = proxy.tree(channel, 7, "com.example.One")
    assert {"/", "/com", PATH, PATH + "/child/deeper"} <= set(objects)
    assert TEST in {interface.name for interface in Gio.DBusNodeInfo.new_for_xml(objects[PATH]).interfaces}
    name, message = proxy.tree(channel, 8, "com.example.Nowhere")
    assert name.startswith(DBUS_ERROR) and message


def test_a_proxy_by_the_text_is_refused_inside_the_link(stack):
    stack.new_nkey("stranger")
    with contextlib.closing(Proxy(stack.nats, stack.directory / "stranger", public_of(stack.machine_key))) as stranger:
        name, message = stranger.link()
        assert name == DBUS_ERROR + "AccessDenied" and stranger.nkey in message


def test_a_proxy_by_the_text_is_told_of_the_agents_end(own):
    with contextlib.closing(Proxy(own.nats, own.operator_key, public_of(own.machine_key))) as proxy:
        proxy.link()
        proxy.open()
        own.agent.terminate()
        _kind, _flags, channel, payload = proxy.record(lambda record: record[0] == CLOSE)
        name, payload = take_string(payload)
        assert (channel, name, take_string(payload)[0]) == (0, "", "agent is shutting down")
        proxy.session = None
    own.start_agent()
    own.wait_online()


def test_a_user_has_128_channels_whoevers_they_are(own):
    """A bus allows 256 connections of one user: the machine's own services must not be locked out."""
    second = own.directory / "second"
    own.new_nkey("second")
    with open(own.authorized, "a", encoding="ascii") as file:
        file.write(pathlib.Path(f"{second}.pub").read_text())
    agent = public_of(own.machine_key)
    with contextlib.closing(Proxy(own.nats, own.operator_key, agent)) as first, contextlib.closing(Proxy(own.nats, second, agent)) as other:
        wait_for(lambda: "2 authorized keys" in own.agent.log(), "both keys to count")
        first.link()
        other.link()
        # One is the real proxy's.
        for _ in range(107):
            first.open()
        name, message = first.ask()[1]
        assert name == DBUS_ERROR + "LimitsExceeded" and "this operator has too many channels" in message
        channels = [other.open()[0] for _ in range(128 - 108)]
        name, message = other.ask()[1]
        assert name == DBUS_ERROR + "LimitsExceeded" and "this user has too many channels" in message
        # One that goes makes room.
        other.session.control(CLOSE, vectors.string(b"") * 2, channels[0])
        other.open()
        assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


# ---- our agent, their proxy ----


@pytest.fixture
def served(own):
    """A stack whose agent is the second implementation's."""
    own.agent.terminate()
    own.wait_state("offline")
    agent = Agent(own.nats, own.machine_key, own.remote.directory / "bus", {public_of(own.operator_key)})
    try:
        wait_for(lambda: own.property("Online") and "com.example.One" in own.property("Services"), "the other agent's machine")
        yield own, agent
    finally:
        agent.stop()
    own.wait_state("offline")
    assert own.property("LastError") == "the text ends here"
    own.start_agent()
    own.wait_online()


def test_an_agent_by_the_text_serves_a_real_proxy(served):
    own, agent = served
    assert own.property("Version") == "text/1" and own.property("MachineId") == ""
    assert own.call("Echo", "(v)", GLib.Variant("s", "x")) == ("x",)
    assert own.call("Child") == (own.path(below=PATH + "/child"),)
    assert own.error("Fail", "(s)", "com.example.Error.Odd") == ("com.example.Error.Odd", "failed as told")
    client = own.new_client()
    client.watch(TEST, "Emitted")
    own.call("Emit", "(o)", "/x")
    client.wait(lambda: len(client.signals) == 2, "both signals")
    assert PATH.split("/")[1] in own.introspect(own.path())
    assert TEST in own.introspect(own.path(below=PATH))
    assert agent.failed is None


def test_an_agent_by_the_text_moves_large_messages_on_credit(served):
    own, _agent = served
    size = 2 * 1024 * 1024
    for member, argument in (("Length", GLib.Variant.new_tuple(blob(size))), ("Bytes", GLib.Variant("(u)", (size,)))):
        reply = own.client.connection.call_sync("ie.bmcgee.CBus", own.path(below=PATH), TEST, member, argument, None,
                                                Gio.DBusCallFlags.NONE, 60000, None).get_child_value(0)
        assert (reply.get_uint32() if member == "Length" else reply.n_children()) == size


def test_a_portal_of_an_agent_by_the_text(served):
    own, _agent = served
    portal = Client(own.property("BusAddress"))
    assert portal.call("com.example.One", PATH, TEST, "Sender") == (portal.connection.get_unique_name(),)
    portal.close()


def test_an_agent_by_the_text_refuses_a_proxy(own):
    own.agent.terminate()
    own.wait_state("offline")
    agent = Agent(own.nats, own.machine_key, own.remote.directory / "bus", set())
    try:
        own.wait_state("unauthorized")
        assert "you are not on my list" in own.property("LastError")
        assert own.error("Echo")[0] == DBUS_ERROR + "AccessDenied"
    finally:
        agent.stop()
    own.start_agent()
    own.wait_online(timeout=40)
