"""The remote service that the tests call: owns the names given, says "ready" once it has them.

Paths: /com/example/Test with children; interface com.example.Test.
"""
import os
import sys

from gi.repository import Gio, GLib

XML = """<node>
  <interface name="com.example.Test">
    <method name="Echo"><arg type="v" direction="in"/><arg type="v" direction="out"/></method>
    <method name="Paths">
      <arg type="s" direction="in"/><arg type="o" direction="in"/><arg type="a{ov}" direction="in"/>
      <arg type="s" direction="out"/><arg type="o" direction="out"/><arg type="a{ov}" direction="out"/>
    </method>
    <method name="SeenPath"><arg type="o" direction="in"/><arg type="s" direction="out"/></method>
    <method name="Child"><arg type="o" direction="out"/></method>
    <method name="Flags"><arg type="u" direction="out"/></method>
    <method name="Sender"><arg type="s" direction="out"/></method>
    <method name="Fail"><arg type="s" direction="in"/></method>
    <method name="Hang"/>
    <method name="Crash"/>
    <method name="Notify"><arg type="s" direction="in"/></method>
    <method name="Notified"><arg type="as" direction="out"/></method>
    <method name="Bytes"><arg type="u" direction="in"/><arg type="ay" direction="out"/></method>
    <method name="Length"><arg type="ay" direction="in"/><arg type="u" direction="out"/></method>
    <method name="Emit"><arg type="o" direction="in"/></method>
    <method name="Own"><arg type="s" direction="in"/></method>
    <method name="Release"><arg type="s" direction="in"/></method>
    <method name="Take"><arg type="h" direction="in"/></method>
    <method name="Give"><arg type="h" direction="out"/></method>
    <method name="EmitDescriptor"/>
    <method name="Flood"><arg type="u" direction="in"/><arg type="u" direction="in"/></method>
    <property name="Level" type="u" access="readwrite"/>
    <signal name="Emitted"><arg type="o"/></signal>
  </interface>
</node>"""
# Two interfaces that have the same members.
TWINS = """<node>
  <interface name="com.example.Left">
    <method name="Who"><arg type="s" direction="out"/></method>
    <property name="Level" type="u" access="read"/><property name="Only" type="s" access="read"/>
  </interface>
  <interface name="com.example.Right">
    <method name="Who"><arg type="s" direction="out"/></method><property name="Level" type="u" access="read"/>
  </interface>
</node>"""
PATH = "/com/example/Test"


class Service:
    def __init__(self, connection):
        self.connection = connection
        self.notes = []
        self.hung = []
        self.level = 1
        self.owned = {}
        interface = Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0]
        for path in (PATH, PATH + "/child", PATH + "/child/deeper"):
            connection.register_object(path, interface, self.on_call, self.on_get, self.on_set)
        for twin in Gio.DBusNodeInfo.new_for_xml(TWINS).interfaces:
            connection.register_object(PATH + "/twins", twin, self.on_twin, self.on_get_twin, None)

    def on_twin(self, _connection, _sender, _path, interface, _method, _parameters, invocation):
        invocation.return_value(GLib.Variant("(s)", (interface,)))

    def on_get_twin(self, _connection, _sender, _path, _interface, name):
        return GLib.Variant("u", self.level) if name == "Level" else GLib.Variant("s", "left alone")

    def on_get(self, _connection, _sender, _path, _interface, _name):
        return GLib.Variant("u", self.level)

    def on_set(self, connection, _sender, path, interface, name, value):
        self.level = value.unpack()
        connection.emit_signal(None, path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                               GLib.Variant("(sa{sv}as)", (interface, {name: value}, [])))
        return True

    def on_call(self, connection, sender, path, _interface, method, parameters, invocation):
        answer = getattr(self, f"do_{method}")(parameters, invocation, sender, path)
        if answer is not NotImplemented:
            invocation.return_value(answer)

    def do_Echo(self, parameters, *_):
        return parameters

    def do_Paths(self, parameters, *_):
        return parameters

    def do_SeenPath(self, parameters, *_):
        return GLib.Variant("(s)", (parameters.unpack()[0],))

    def do_Child(self, *_):
        return GLib.Variant("(o)", (PATH + "/child",))

    def do_Flags(self, _parameters, invocation, *_):
        return GLib.Variant("(u)", (int(invocation.get_message().get_flags()),))

    def do_Sender(self, _parameters, _invocation, sender, _path):
        return GLib.Variant("(s)", (sender,))

    def do_Fail(self, parameters, invocation, *_):
        invocation.return_dbus_error(parameters.unpack()[0], "failed as told")
        return NotImplemented

    def do_Hang(self, _parameters, invocation, *_):
        self.hung.append(invocation)
        return NotImplemented

    def do_Crash(self, *_):
        os._exit(3)

    def do_Notify(self, parameters, *_):
        self.notes.append(parameters.unpack()[0])

    def do_Notified(self, *_):
        return GLib.Variant("(as)", (self.notes,))

    def do_Bytes(self, parameters, *_):
        data = GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(parameters.unpack()[0])), True)
        return GLib.Variant.new_tuple(data)

    def do_Length(self, parameters, *_):
        return GLib.Variant("(u)", (parameters.get_child_value(0).n_children(),))

    def do_Emit(self, parameters, _invocation, _sender, path):
        self.connection.emit_signal(None, path, "com.example.Test", "Emitted", parameters)

    def do_Give(self, _parameters, invocation, *_):
        descriptors = Gio.UnixFDList.new()
        descriptors.append(0)
        invocation.return_value_with_unix_fd_list(GLib.Variant("(h)", (0,)), descriptors)
        return NotImplemented

    def do_EmitDescriptor(self, _parameters, _invocation, _sender, path):
        descriptors = Gio.UnixFDList.new()
        descriptors.append(0)
        message = Gio.DBusMessage.new_signal(path, "com.example.Test", "Descriptor")
        message.set_body(GLib.Variant("(h)", (0,)))
        message.set_unix_fd_list(descriptors)
        self.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)

    def do_Flood(self, parameters, _invocation, _sender, path):
        """So many signals of so many bytes."""
        count, size = parameters.unpack()
        body = GLib.Variant.new_tuple(GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(size)), True))
        for _ in range(count):
            self.connection.emit_signal(None, path, "com.example.Test", "Flooded", body)

    def do_Own(self, parameters, invocation, *_):
        name = parameters.unpack()[0]
        self.owned[name] = Gio.bus_own_name_on_connection(self.connection, name, Gio.BusNameOwnerFlags.NONE,
                                                          lambda *_: invocation.return_value(None), None)
        return NotImplemented

    def do_Release(self, parameters, *_):
        Gio.bus_unown_name(self.owned.pop(parameters.unpack()[0]))


def serve(kind):
    """Owns the names on the command line with an instance of KIND on the bus, and says "ready"."""
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS") or os.environ["DBUS_STARTER_ADDRESS"]
    connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
    connection.set_exit_on_close(True)
    service = kind(connection)
    waiting = set(sys.argv[1:])

    def acquired(_connection, name):
        waiting.discard(name)
        if not waiting:
            print("ready", flush=True)

    for name in sys.argv[1:]:
        Gio.bus_own_name_on_connection(connection, name, Gio.BusNameOwnerFlags.NONE, acquired, None)
    assert service
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(Service)
