"""A service with every type, for clients that know no D-Bus: owns the names given, says "ready" once it has them.

/com/example/Typed has two interfaces with a method Which and a property Which; / has one of them. At
/org/freedesktop/systemd1 it tells who subscribes.
"""
from gi.repository import Gio, GLib
from service import serve

PATH = "/com/example/Typed"
EVERYTHING = "ybnqiuxtdsogva{sv}(ias)aya{us}a{oa{sv}}"
XML = """<node>
  <interface name="com.example.Typed">
    <method name="Everything">%s</method>
    <method name="Which"><arg type="s" direction="out"/></method>
    <method name="Text"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
    <method name="Two"><arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="u" direction="out"/></method>
    <method name="Held"><arg type="u" direction="in"/><arg type="s" direction="out"/></method>
    <method name="HowManyHeld"><arg type="u" direction="out"/></method>
    <method name="LetGo"/>
    <method name="FailWith"><arg type="s" direction="in"/><arg type="u" direction="in"/></method>
    <method name="Announce"><arg type="x" direction="in"/></method>
    <method name="Flood"><arg type="u" direction="in"/><arg type="u" direction="in"/></method>
    <method name="FarAway"><arg type="u" direction="in"/></method>
    <property name="Which" type="s" access="read"/>
    <property name="With_Line" type="t" access="read"/>
    <property name="Values" type="a{sv}" access="readwrite"/>
    <signal name="Announced"><arg type="x"/><arg type="v"/><arg type="a{sv}"/></signal>
  </interface>
  <interface name="com.example.Other">
    <method name="Which"><arg type="s" direction="out"/></method>
    <property name="Which" type="s" access="read"/>
  </interface>
  <interface name="org.freedesktop.systemd1.Manager"><method name="Subscribe"/></interface>
</node>""" % "".join(f'<arg type="{t}" direction="{d}"/>' for d in ("in", "out") for t in (
    "y", "b", "n", "q", "i", "u", "x", "t", "d", "s", "o", "g", "v", "a{sv}", "(ias)", "ay", "a{us}", "a{oa{sv}}"))


class Service:
    def __init__(self, connection):
        self.connection = connection
        self.held = []
        self.values = GLib.Variant("a{sv}", {"a": GLib.Variant("s", "b")})
        interfaces = Gio.DBusNodeInfo.new_for_xml(XML).interfaces
        for path, some in ((PATH, interfaces[:2]), ("/", interfaces[1:2]), ("/org/freedesktop/systemd1", interfaces[2:])):
            for interface in some:
                connection.register_object(path, interface, self.on_call, self.on_get, self.on_set)

    def on_get(self, _connection, _sender, _path, interface, name):
        return {"Which": GLib.Variant("s", interface), "With_Line": GLib.Variant("t", 2 ** 64 - 1),
                "Values": self.values}[name]

    def on_set(self, connection, _sender, path, interface, name, value):
        self.values = value
        connection.emit_signal(None, path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                               GLib.Variant("(sa{sv}as)", (interface, {name: value}, [])))
        return True

    def on_call(self, connection, _sender, path, interface, method, parameters, invocation):
        answer = parameters
        if method == "Which":
            answer = GLib.Variant("(s)", (f"{interface} at {path}",))
        elif method == "Two":
            answer = GLib.Variant("(u)", (len(parameters.unpack()[0]) + parameters.unpack()[1],))
        elif method == "FailWith":
            text, times = parameters.unpack()
            invocation.return_dbus_error("com.example.Error.Odd", text * times)
            return
        elif method == "Held":
            self.held.append((invocation, parameters.unpack()[0]))
            return
        elif method == "HowManyHeld":
            answer = GLib.Variant("(u)", (len(self.held),))
        elif method == "LetGo":
            for other, size in self.held:
                other.return_value(GLib.Variant("(s)", ("h" * size,)))
            self.held = []
            answer = None
        elif method == "Subscribe":
            connection.emit_signal(None, path, interface, "Subscribed", None)
            answer = None
        elif method == "Announce":
            number = parameters.unpack()[0]
            connection.emit_signal(None, path, interface, "Announced", GLib.Variant("(xva{sv})", (
                number, GLib.Variant("as", ["x", "y"]), {"n": GLib.Variant("(ib)", (7, True))})))
            answer = None
        elif method == "FarAway":
            connection.emit_signal(None, "/a" * parameters.unpack()[0], interface, "Far", None)
            answer = None
        elif method == "Flood":
            times, size = parameters.unpack()
            for _ in range(times):
                connection.emit_signal(None, path, interface, "Announced", GLib.Variant("(xva{sv})", (
                    0, GLib.Variant("s", "f" * size), {})))
            answer = None
        invocation.return_value(answer)


if __name__ == "__main__":
    serve(Service)
