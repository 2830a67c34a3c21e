"""Every D-Bus client library and tool at both of our doors, a portal and the mirror, with dbus-daemon and with dbus-broker
on both sides: each introspects the same object, calls it, sets and reads a property, and hears a signal that holds an
object path. At the portal names and paths are the machine's own; at the mirror they are below the machine's path."""
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from desktop import Desktop
from stack import NAME, TEST, Broker, Bus, Client, Program, Stack, wait_for

SERVICE = "com.example.One"
PATH = "/com/example/Test"


@pytest.fixture(scope="module", params=[Bus, Broker], ids=["dbus-daemon", "dbus-broker"])
def buses(request):
    if request.param is Broker and os.geteuid() != 0 and not os.path.exists("/run/systemd/journal/socket"):
        pytest.skip("dbus-broker wants a journal, and only root can show it one")
    with Stack(bus=request.param) as running:
        yield running
        running.stop()


@dataclass
class Door:
    """Where a client finds the object."""
    kind: str
    address: str
    name: str
    path: str


@pytest.fixture(params=["portal", "mirror"])
def door(request, buses):
    buses.check()
    if request.param == "portal":
        yield Door("portal", buses.property("BusAddress"), SERVICE, PATH)
    else:
        yield Door("mirror", buses.session.address, NAME, buses.path(below=PATH))
    buses.check()


def run(*argv, env=None, timeout=30):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
    assert done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout


# --- libraries ------------------------------------------------------------------------------------------------------

# Each is given an address, a name and a path, and prints: the interfaces and members that it sees, what Child returned, the
# property Level after it was set to 7, and the path in the signal that Emit("/") made (Emitted is about the emitter's child).
LIBRARIES = {
    "dbus-python": """
import sys, dbus, dbus.mainloop.glib
from gi.repository import GLib
address, name, path = sys.argv[1:]
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(address)
remote = bus.get_object(name, path)
xml = remote.Introspect(dbus_interface="org.freedesktop.DBus.Introspectable")
test = dbus.Interface(remote, "com.example.Test")
child = test.Child()
properties = dbus.Interface(remote, "org.freedesktop.DBus.Properties")
properties.Set("com.example.Test", "Level", dbus.UInt32(7))
level = properties.Get("com.example.Test", "Level")
loop = GLib.MainLoop()
heard = []
bus.add_signal_receiver(lambda p: (heard.append(p), loop.quit()), "Emitted", "com.example.Test", name, path)
GLib.idle_add(lambda: test.Emit(dbus.ObjectPath(child)))
loop.run()
print("Emitted" in xml and "Paths" in xml, child, level, heard[0])
""",
    "dasbus": """
import sys
from dasbus.connection import AddressedMessageBus
from dasbus.loop import EventLoop
from dasbus.typing import get_variant, UInt32
address, name, path = sys.argv[1:]
bus = AddressedMessageBus(address)
remote = bus.get_proxy(name, path)
xml = bus.get_proxy(name, path, "org.freedesktop.DBus.Introspectable").Introspect()
child = remote.Child()
remote.Level = 7
loop = EventLoop()
heard = []
remote.Emitted.connect(lambda p: (heard.append(p), loop.quit()))
remote.Emit(child)
loop.run()
print("Emitted" in xml and "Paths" in xml, child, remote.Level, heard[0])
""",
    "dbus-next": """
import asyncio, sys
from dbus_next.aio import MessageBus
address, name, path = sys.argv[1:]
async def main():
    bus = await MessageBus(bus_address=address).connect()
    node = await bus.introspect(name, path)
    test = bus.get_proxy_object(name, path, node).get_interface("com.example.Test")
    child = await test.call_child()
    await test.set_level(7)
    heard = asyncio.get_event_loop().create_future()
    test.on_emitted(heard.set_result)
    await bus.introspect("org.freedesktop.DBus", "/org/freedesktop/DBus")  # the match is there
    await test.call_emit(child)
    known = {m.name for i in node.interfaces for m in i.methods + i.signals}
    print({"Emitted", "Paths"} <= known, child, await test.get_level(), await heard)
asyncio.run(main())
""",
    "jeepney": """
import sys
from jeepney import DBusAddress, MatchRule, Properties, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection, Proxy
address, name, path = sys.argv[1:]
connection = open_dbus_connection(bus=address)
test = DBusAddress(path, name, "com.example.Test")
ask = lambda member, *body: connection.send_and_get_reply(new_method_call(test, member, *body), timeout=20).body
xml = connection.send_and_get_reply(new_method_call(test.with_interface("org.freedesktop.DBus.Introspectable"), "Introspect")).body[0]
child = ask("Child")[0]
properties = Properties(test)
connection.send_and_get_reply(properties.set("Level", "u", 7))
level = connection.send_and_get_reply(properties.get("Level")).body[0][1]
rule = MatchRule(type="signal", interface="com.example.Test", member="Emitted", path=path)
Proxy(message_bus, connection).AddMatch(rule)
with connection.filter(rule) as queue:
    ask("Emit", "o", (child,))
    heard = connection.recv_until_filtered(queue, timeout=20).body[0]
print("Emitted" in xml and "Paths" in xml, child, level, heard)
""",
    "gio": """
import sys
from gi.repository import Gio, GLib
address, name, path = sys.argv[1:]
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
remote = Gio.DBusProxy.new_sync(bus, Gio.DBusProxyFlags.NONE, None, name, path, "com.example.Test", None)
xml = bus.call_sync(name, path, "org.freedesktop.DBus.Introspectable", "Introspect", None, None, 0, 20000, None).unpack()[0]
child = remote.Child()
loop = GLib.MainLoop()
heard = []
remote.connect("g-signal", lambda p, sender, member, body: (heard.append(body.unpack()[0]), loop.quit()))
changed = GLib.MainLoop()
remote.connect("g-properties-changed", lambda *a: changed.quit())
remote.call_sync("org.freedesktop.DBus.Properties.Set", GLib.Variant("(ssv)", ("com.example.Test", "Level", GLib.Variant("u", 8))), 0, 20000, None)
remote.call_sync("org.freedesktop.DBus.Properties.Set", GLib.Variant("(ssv)", ("com.example.Test", "Level", GLib.Variant("u", 7))), 0, 20000, None)
while remote.get_cached_property("Level").unpack() != 7:
    changed.run()
remote.Emit("(o)", child)
loop.run()
print("Emitted" in xml and "Paths" in xml, child, remote.get_cached_property("Level").unpack(), heard[0])
""",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library(door, library):
    said = run(sys.executable, "-c", LIBRARIES[library], door.address, door.name, door.path).split()
    assert said == ["True", door.path + "/child", "7", door.path + "/child"]


# --- tools ----------------------------------------------------------------------------------------------------------


def test_busctl(door):
    def busctl(*arguments):
        return run("busctl", f"--address={door.address}", "--no-pager", *arguments)
    assert door.name in busctl("list")
    assert door.path + "/child/deeper" in busctl("tree", "--list", door.name).split()
    described = busctl("introspect", door.name, door.path)
    assert ".Emitted" in described and ".Level" in described
    assert busctl("call", door.name, door.path, TEST, "Child") == f'o "{door.path}/child"\n'
    busctl("set-property", door.name, door.path, TEST, "Level", "u", "9")
    assert busctl("get-property", door.name, door.path, TEST, "Level") == "u 9\n"
    assert "UniqueName=" in busctl("status", door.name)


def test_gdbus(door):
    def gdbus(verb, *arguments):
        return run("gdbus", verb, "--address", door.address, "--dest", door.name, "--object-path", door.path, *arguments)
    assert gdbus("call", "--method", f"{TEST}.Child") == f"(objectpath '{door.path}/child',)\n"
    described = gdbus("introspect", "--recurse")
    assert f"node {door.path}/child/deeper" in described and "Emitted(o arg_0)" in described
    run("gdbus", "emit", "--address", door.address, "--object-path", "/x", "--signal", "com.example.Mine.Hello")


def test_dbus_send(door):
    def dbus_send(*arguments):
        return run("dbus-send", f"--bus={door.address}", "--print-reply=literal", f"--dest={door.name}", door.path, *arguments)
    assert dbus_send(f"{TEST}.Child").split() == [door.path + "/child"]
    dbus_send("org.freedesktop.DBus.Properties.Set", f"string:{TEST}", "string:Level", "variant:uint32:11")
    assert dbus_send("org.freedesktop.DBus.Properties.Get", f"string:{TEST}", "string:Level").split() == ["variant", "uint32", "11"]


def test_qdbus(door):
    def qdbus(*arguments):
        return run("qdbus", "--system", *arguments, env={"DBUS_SYSTEM_BUS_ADDRESS": door.address, "QT_SELECT": "qt5"})
    assert door.name in qdbus().split()
    assert {door.path, door.path + "/child/deeper"} <= set(qdbus(door.name).split())
    described = qdbus(door.name, door.path)
    assert {f"signal void {TEST}.Emitted(QDBusObjectPath arg_0)", f"property readwrite uint {TEST}.Level"} <= set(described.splitlines()), described
    assert qdbus("--literal", door.name, door.path, f"{TEST}.Child") == f"[ObjectPath: {door.path}/child]\n"
    # It sets strings alone.
    run("busctl", f"--address={door.address}", "set-property", door.name, door.path, TEST, "Level", "u", "12")
    assert qdbus(door.name, door.path, f"{TEST}.Level") == "12\n"


# What shows that a monitor is one, and what the call that it has to show looks like.
MONITORS = {
    "dbus-monitor": (["dbus-monitor", "--address", "ADDRESS"], "member=NameLost", "member=Emitted"),
    "busctl monitor": (["busctl", "--address=ADDRESS", "--no-pager", "monitor"], "Monitoring bus message stream", "Member=Emitted"),
    "gdbus monitor": (["gdbus", "monitor", "--address", "ADDRESS", "--dest", "NAME"], "is owned by", f"{TEST}.Emitted "),
}


@pytest.mark.parametrize("monitor", MONITORS)
def test_a_monitor(door, buses, tmp_path, monitor):
    argv, begins, shows = MONITORS[monitor]
    argv = [word.replace("ADDRESS", door.address).replace("NAME", door.name) for word in argv]
    program = Program("monitor", tmp_path)
    program.spawn(argv, env={**os.environ, "LC_ALL": "C.UTF-8"})

    def shown():
        buses.call("Emit", "(o)", "/x")  # gdbus says that it listens before it does
        return shows in program.log()

    try:
        wait_for(lambda: begins in program.log(), "the monitor to begin", 20)
        wait_for(shown, "the monitor to show a signal", 20)
    finally:
        program.kill()


# --- d-feet ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desktop(tmp_path_factory):
    with Desktop(tmp_path_factory.mktemp("desktop")) as running:
        yield running


def test_dfeet(door, buses, desktop):
    wanted = door.path + "/child/deeper"
    shown = desktop.look(door.address, door.name, wanted)
    client = buses.client if door.kind == "mirror" else Client(door.address)
    known = {n for n in client.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListNames")[0] if n[0] != ":"}
    assert known <= set(shown["names"])
    assert {door.path, door.path + "/child", wanted} <= set(shown["objects"])
    assert ("/ie/bmcgee/CBus" in shown["objects"]) == (door.kind == "mirror")
    if door.kind == "portal":
        client.close()
