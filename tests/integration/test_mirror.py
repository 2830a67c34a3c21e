"""What the mirror promises while everything works, through a real proxy, broker and agent."""
import pytest
from gi.repository import Gio, GLib
from stack import NAME, ROOT, TEST, Client, escape, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
PATH = "/com/example/Test"
DRIVER = "org.freedesktop.DBus"
MISTYPED = "UBPTX7SRKX6EJEYLUSQG4EYE43CNNBIXJNCUDQBQRQN4VIXMM3RMXAXG"


def test_values_of_every_type_come_back_as_they_went(stack):
    value = GLib.Variant("(ybnqiuxtdsgaya{sv}(sv)ass)", (
        255, True, -2, 65535, -5, 7, -(2**60), 2**63, 0.5, "/not/a/path", "a{sv}", b"\x00\xff",
        {"k": GLib.Variant("as", ["x"])}, ("s", GLib.Variant("v", GLib.Variant("u", 1))), ["a", ""], "ü"))
    reply = stack.client.connection.call_sync(NAME, stack.path(below=PATH), TEST, "Echo", GLib.Variant("(v)", (value,)),
                                              None, Gio.DBusCallFlags.NONE, 15000, None)
    assert reply.get_child_value(0).get_variant().equal(value)


def test_object_paths_are_translated_both_ways_and_strings_never(stack):
    local = stack.path("com.example.Two", PATH)
    assert stack.call("SeenPath", "(o)", local)[0] == PATH
    assert stack.call("SeenPath", "(o)", stack.path())[0] == "/"
    assert stack.call("SeenPath", "(o)", "/elsewhere/x")[0] == "/elsewhere/x"
    text, path, mapping = stack.call("Paths", "(soa{ov})", local, local, {
        local: GLib.Variant("v", GLib.Variant("ao", [local, "/"]))})
    mine = stack.path(below=PATH)
    assert text == local
    assert path == mine
    assert mapping == {mine: [mine, "/"]}


def test_a_path_that_came_back_can_be_called(stack):
    child = stack.call("Child")[0]
    assert child == stack.path(below=PATH + "/child")
    assert stack.client.call(NAME, child, TEST, "Echo", "(v)", GLib.Variant("u", 3)) == (3,)


def test_the_path_of_another_machine_is_refused(stack):
    for below in ("", "/a_2eb", "/a_2eb/c"):
        name, message = stack.error("SeenPath", "(o)", f"{ROOT}/{stack.new_nkey('other' + str(len(below)))}{below}")
        assert name == DBUS_ERROR + "InvalidArgs"
        assert "web1" in message


def test_errors_come_back_verbatim(stack):
    assert stack.error("Fail", "(s)", "com.example.Error.Odd") == ("com.example.Error.Odd", "failed as told")
    assert stack.error("NoSuchMethod")[0] == DBUS_ERROR + "UnknownMethod"
    assert stack.error("Echo", "(s)", "x")[0] == DBUS_ERROR + "InvalidArgs"


def test_flags_pass(stack):
    assert stack.call("Flags")[0] & 0x7 == 0
    assert stack.call("Flags", flags=Gio.DBusCallFlags.NO_AUTO_START)[0] & 0x7 == 2
    assert stack.call("Flags", flags=Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION)[0] & 0x7 == 4


def test_a_call_without_reply_arrives(stack):
    message = Gio.DBusMessage.new_method_call(NAME, stack.path(below=PATH), TEST, "Notify")
    message.set_body(GLib.Variant("(s)", ("quietly",)))
    message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    stack.client.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
    wait_for(lambda: "quietly" in stack.call("Notified")[0], "the note")


def test_big_endian_callers_are_served(stack):
    message = Gio.DBusMessage.new_method_call(NAME, stack.path(below=PATH), TEST, "SeenPath")
    message.set_byte_order(Gio.DBusMessageByteOrder.BIG_ENDIAN)
    message.set_body(GLib.Variant("(o)", (stack.path(below="/x"),)))
    reply, _serial = stack.client.connection.send_message_with_reply_sync(message, Gio.DBusSendMessageFlags.NONE, 15000,
                                                                          None)
    assert reply.get_body().unpack() == ("/x",)


def test_large_messages_cross(stack):
    size = 20 * 1024 * 1024
    data = GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(size)), True)
    for member, argument, length in (("Bytes", GLib.Variant("(u)", (size,)), lambda value: value.n_children()),
                                     ("Length", GLib.Variant.new_tuple(data), lambda value: value.get_uint32())):
        reply = stack.client.connection.call_sync(NAME, stack.path(below=PATH), TEST, member, argument, None,
                                                  Gio.DBusCallFlags.NONE, 60000, None)
        assert length(reply.get_child_value(0)) == size


def test_descriptors_are_refused_and_nothing_hangs(stack):
    fds = Gio.UnixFDList.new()
    fds.append(0)
    with pytest.raises(GLib.Error) as caught:
        stack.client.connection.call_with_unix_fd_list_sync(NAME, stack.path(below=PATH), TEST, "Take",
                                                            GLib.Variant("(h)", (0,)), None, Gio.DBusCallFlags.NONE, 15000,
                                                            fds, None)
    # The session bus itself says so: cbus-proxy takes no descriptors from it.
    assert Gio.DBusError.get_remote_error(caught.value) == DBUS_ERROR + "NotSupported"
    message = Gio.DBusMessage.new_method_call(NAME, stack.path(below=PATH), TEST, "Take")
    message.set_body(GLib.Variant("(h)", (0,)))
    reply, _serial = stack.client.connection.send_message_with_reply_sync(message, Gio.DBusSendMessageFlags.NONE, 15000,
                                                                          None)
    assert reply.get_error_name() == DBUS_ERROR + "NotSupported"
    assert "web1" in reply.get_body().unpack()[0]


def test_descriptors_of_the_remote_are_refused_and_nothing_hangs(stack):
    name, message = stack.error("Give", timeout=5)
    assert name == DBUS_ERROR + "NotSupported", (name, message)
    client = stack.new_client()
    client.watch(TEST)
    stack.call("EmitDescriptor")
    stack.call("Emit", "(o)", "/x")
    client.wait(lambda: len(client.signals) >= 2, "the signal after it")
    assert {signal[2] for signal in client.signals} == {"Emitted"}
    client.close()


def test_a_remote_caller_with_a_descriptor_is_answered(stack):
    portal = Client(f"unix:path={stack.directory}/runtime/{stack.nkey}/bus")
    remote = Client(stack.remote.address)
    descriptors = Gio.UnixFDList.new()
    descriptors.append(0)
    with pytest.raises(GLib.Error) as caught:
        remote.connection.call_with_unix_fd_list_sync(portal.connection.get_unique_name(), "/", "a.b", "Take",
                                                      GLib.Variant("(h)", (0,)), None, 0, 5000, descriptors, None)
    assert Gio.DBusError.get_remote_error(caught.value) == DBUS_ERROR + "NotSupported"
    for client in (portal, remote):
        client.close()


def test_an_unknown_machine(stack):
    unknown = stack.new_nkey("unknown")
    for below in ("", "/_zz", "/a_2eb", "/a_2eb/x"):
        name, message = stack.client.error(NAME, f"{ROOT}/{unknown}{below}", TEST, "Echo", "(s)", "x")
        assert name == DBUS_ERROR + "UnknownObject"
        assert unknown in message and "no machine" in message
        assert "cbus trust" in message and "cbus machines" in message
    for element in ("UXYZ", "x", unknown[:-1], unknown.lower(), MISTYPED):
        name, message = stack.client.error(NAME, f"{ROOT}/{element}/a_2eb", TEST, "Echo")
        assert name == DBUS_ERROR + "UnknownObject"
        assert element in message and "NKey" in message and "cbus machines" in message, message


def test_an_unknown_service(stack):
    for below in ("/", PATH):
        name, message = stack.error("Echo", service="com.example.NotThere", below=below)
        assert name == DBUS_ERROR + "UnknownObject"
        assert "web1" in message and stack.nkey in message and "com.example.NotThere" in message and "Services" in message


@pytest.mark.parametrize("element", ["_zz", "_4", "_", "_2", "com_2Eexample_2eOne", "com_2eexample_2eOn_65", "com", "_2e_2e", "a_00b_2ec"])
def test_an_undecodable_path_element(stack, element):
    for below in ("", "/x"):
        name, message = stack.client.error(NAME, f"{stack.machine}/{element}{below}", TEST, "Echo")
        assert name == DBUS_ERROR + "UnknownObject"
        assert "web1" in message and stack.nkey in message and element in message and "two hexadecimal digits" in message


def test_an_unknown_object_and_method_of_a_service_are_its_own_to_refuse(stack):
    direct = Client(stack.remote.address)
    for path, member, signature, args in (("/no/such", "Echo", None, ()), (PATH, "Nonsense", None, ()), (PATH, "Echo", "(s)", ("x",))):
        expected = direct.error("com.example.One", path, TEST, member, signature, *args)
        assert stack.error(member, signature, *args, below=path) == expected
    direct.close()


def test_unique_names_can_be_addressed_but_are_not_listed(stack):
    owner = stack.call("GetNameOwner", "(s)", "com.example.One", service=DRIVER, below="/org/freedesktop/DBus",
                       interface=DRIVER)[0]
    assert owner.startswith(":")
    assert stack.call("Echo", "(v)", GLib.Variant("s", "u"), service=owner) == ("u",)
    assert stack.call("Child", service=owner) == (stack.path(owner, PATH + "/child"),)
    assert not any(name.startswith(":") for name in stack.property("Services"))
    name, _message = stack.error("Echo", service=":1.99999")
    assert name in (DBUS_ERROR + "ServiceUnknown", DBUS_ERROR + "NameHasNoOwner")


def test_services_are_listed_sorted_with_activatable_ones(stack):
    services = stack.property("Services")
    assert services == sorted(services)
    assert {"com.example.One", "com.example.Two", "com.example.Lazy", DRIVER} <= set(services)


def test_the_driver_answers_questions_only(stack):
    at = {"service": DRIVER, "below": "/org/freedesktop/DBus", "interface": DRIVER}
    assert "com.example.One" in stack.call("ListNames", **at)[0]
    assert "com.example.Lazy" in stack.call("ListActivatableNames", **at)[0]
    assert stack.call("NameHasOwner", "(s)", "com.example.One", **at) == (True,)
    assert stack.call("GetConnectionUnixProcessID", "(s)", "com.example.One", **at)[0] == stack.service.process.pid
    assert len(stack.call("GetId", **at)[0]) == 32
    assert stack.call("AddMatch", "(s)", "type='signal'", **at) == ()
    assert stack.call("RemoveMatch", "(s)", "type='signal'", **at) == ()
    assert stack.client.call(NAME, stack.path(DRIVER), "org.freedesktop.DBus.Peer", "Ping") == ()
    for member, signature, args in (("RequestName", "(su)", ("com.example.Stolen", 0)), ("ReleaseName", "(s)", ("a.b",)),
                                    ("ReloadConfig", None, ()), ("Hello", None, ())):
        name, message = stack.error(member, signature, *args, **at)
        assert name == DBUS_ERROR + "AccessDenied"
        assert "portal" in message
    name, _message = stack.error("BecomeMonitor", "(asu)", [], 0, **{**at, "interface": DRIVER + ".Monitoring"})
    assert name == DBUS_ERROR + "AccessDenied"


def test_signals_appear_below_every_name_of_their_sender(stack):
    client = stack.new_client()
    client.watch(TEST, "Emitted")
    stack.call("Emit", "(o)", stack.path(below="/p"))
    client.wait(lambda: len(client.signals) >= 2, "both signals")
    assert sorted(client.signals) == sorted(
        (stack.path(service, PATH), TEST, "Emitted", (stack.path(service, "/p"),))
        for service in ("com.example.One", "com.example.Two"))
    client.close()


def test_names_are_current_before_their_change_is_told(stack):
    client = stack.new_client()
    client.watch(DRIVER, "NameOwnerChanged")
    stack.call("Own", "(s)", "com.example.Third")
    client.wait(lambda: any(s[3][0] == "com.example.Third" for s in client.signals), "NameOwnerChanged")
    assert client.signals[-1][0] == stack.path(DRIVER, "/org/freedesktop/DBus")
    assert "com.example.Third" in stack.property("Services")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 9), service="com.example.Third") == (9,)
    stack.call("Release", "(s)", "com.example.Third")
    client.wait(lambda: client.signals[-1][3][0::2] == ("com.example.Third", ""), "its end")
    assert "com.example.Third" not in stack.property("Services")
    assert stack.error("Echo", service="com.example.Third")[0] == DBUS_ERROR + "UnknownObject"
    client.close()


def test_properties_are_those_of_the_remote(stack):
    client = stack.new_client()
    client.watch("org.freedesktop.DBus.Properties", "PropertiesChanged", stack.path())
    path = stack.path(below=PATH)
    properties = "org.freedesktop.DBus.Properties"
    client.call(NAME, path, properties, "Set", "(ssv)", TEST, "Level", GLib.Variant("u", 42))
    assert client.call(NAME, path, properties, "Get", "(ss)", TEST, "Level") == (42,)
    client.wait(lambda: (path, properties, "PropertiesChanged", (TEST, {"Level": 42}, [])) in client.signals, "the change")
    client.close()


def nodes(xml):
    info = Gio.DBusNodeInfo.new_for_xml(xml)
    return {node.path for node in info.nodes}, {interface.name for interface in info.interfaces}


def test_introspection_leads_from_the_root_to_an_object(stack):
    children, _ = nodes(stack.introspect(ROOT))
    assert stack.nkey in children
    children, interfaces = nodes(stack.introspect(stack.machine))
    assert escape("com.example.One") in children and escape("com.example.Lazy") in children
    assert "ie.bmcgee.CBus1.Machine" in interfaces
    path = stack.path()
    for element in ("com", "example", "Test", "child", "deeper"):
        children, _ = nodes(stack.introspect(path))
        assert element in children, path
        path += "/" + element
    children, interfaces = nodes(stack.introspect(path))
    assert TEST in interfaces
    assert children == set()


def test_browsing_does_not_start_a_service_and_calling_does(stack):
    at = {"service": DRIVER, "below": "/org/freedesktop/DBus", "interface": DRIVER}
    children, interfaces = nodes(stack.introspect(stack.path("com.example.Lazy")))
    assert (children, interfaces) == (set(), set())
    assert stack.call("NameHasOwner", "(s)", "com.example.Lazy", **at) == (False,)
    name, _message = stack.error("Echo", "(v)", GLib.Variant("u", 5), service="com.example.Lazy",
                                 flags=Gio.DBusCallFlags.NO_AUTO_START)
    assert name in (DBUS_ERROR + "NameHasNoOwner", DBUS_ERROR + "ServiceUnknown")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 5), service="com.example.Lazy") == (5,)
    children, _ = nodes(stack.introspect(stack.path("com.example.Lazy")))
    assert children == {"com"}
    assert stack.error("Crash", service="com.example.Lazy")[0] == DBUS_ERROR + "NoReply"
    wait_for(lambda: stack.call("NameHasOwner", "(s)", "com.example.Lazy", **at) == (False,), "it to be gone")
    children, _ = nodes(stack.introspect(stack.path("com.example.Lazy")))
    assert children == {"com"}


def test_a_healthy_service_answers_while_200_calls_hang(stack):
    hanging = [stack.start("Hang") for _ in range(200)]
    for number in range(50):
        assert stack.call("Echo", "(v)", GLib.Variant("u", number), service="com.example.Two") == (number,)
    assert not any(hanging)


def test_calls_of_a_caller_that_left_are_forgotten(stack):
    for _ in range(4):
        client = stack.new_client()
        hanging = [stack.start("Hang", client=client) for _ in range(300)]
        stack.call("Echo", "(v)", GLib.Variant("u", 1), client=client)
        assert not any(hanging)
        client.close()
    assert stack.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)


def test_signals_are_narrowed_by_match_rules(own):
    own.proxy.terminate()
    own.proxy_options = ["--signals", "type='signal',interface='com.example.Test',member='Emitted',path='/com/example/Test/child'"]
    own.start_proxy()
    own.wait_online()
    client = own.new_client()
    client.watch()
    below = own.path(below=PATH)
    own.call("Emit", "(o)", "/unwanted")
    own.client.call(NAME, below, "org.freedesktop.DBus.Properties", "Set", "(ssv)", TEST, "Level", GLib.Variant("u", 43))
    own.call("Emit", "(o)", "/wanted", below=PATH + "/child")
    own.call("Own", "(s)", "com.example.Third")
    client.wait(lambda: any(s[2] == "NameOwnerChanged" and s[3][0] == "com.example.Third" for s in client.signals), "the name")
    assert "com.example.Third" in own.property("Services")
    seen = [(s[0], s[3]) for s in client.signals if s[1] in (TEST, "org.freedesktop.DBus.Properties") and s[0] != own.machine]
    assert sorted(seen) == [(own.path(name, PATH + "/child"), (own.path(name, "/wanted"),))
                            for name in ("com.example.One", "com.example.Two")]


def test_a_match_rule_that_no_bus_takes_is_refused_at_start(own):
    own.proxy.terminate()
    own.proxy_options = ["--signals", "member='a b'"]
    own.start_proxy()
    assert own.proxy.process.wait(5) == 1
    assert "member='a b'" in own.proxy.log()
    own.proxy_options = []
    own.start_proxy()
    own.wait_online()
