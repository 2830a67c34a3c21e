"""Every D-Bus client library, qdbus and d-feet with a booted machine for their system bus: through its portal, and through the
mirror."""
import os
import subprocess
import sys

import pytest
from desktop import Desktop

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"

# Each is given an address, a name and a path, and prints the path of dbus.socket and systemd's version.
LIBRARIES = {
    "dbus-python": """
import sys, dbus
address, name, path = sys.argv[1:]
bus = dbus.bus.BusConnection(address)
manager = dbus.Interface(bus.get_object(name, path), "org.freedesktop.systemd1.Manager")
properties = dbus.Interface(bus.get_object(name, path), "org.freedesktop.DBus.Properties")
print(manager.GetUnit("dbus.socket"), properties.Get("org.freedesktop.systemd1.Manager", "Version"))
""",
    "dasbus": """
import sys
from dasbus.connection import AddressedMessageBus
address, name, path = sys.argv[1:]
manager = AddressedMessageBus(address).get_proxy(name, path, "org.freedesktop.systemd1.Manager")
print(manager.GetUnit("dbus.socket"), manager.Version)
""",
    "dbus-next": """
import asyncio, sys
from dbus_next.aio import MessageBus
address, name, path = sys.argv[1:]
async def main():
    bus = await MessageBus(bus_address=address).connect()
    node = await bus.introspect(name, path)
    manager = bus.get_proxy_object(name, path, node).get_interface("org.freedesktop.systemd1.Manager")
    print(await manager.call_get_unit("dbus.socket"), await manager.get_version())
asyncio.run(main())
""",
    "jeepney": """
import sys
from jeepney import DBusAddress, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection
address, name, path = sys.argv[1:]
connection = open_dbus_connection(bus=address)
manager = DBusAddress(path, name, "org.freedesktop.systemd1.Manager")
print(connection.send_and_get_reply(new_method_call(manager, "GetUnit", "s", ("dbus.socket",))).body[0],
      connection.send_and_get_reply(Properties(manager).get("Version")).body[0][1])
""",
    "gio": """
import sys
from gi.repository import Gio
address, name, path = sys.argv[1:]
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
manager = Gio.DBusProxy.new_sync(bus, Gio.DBusProxyFlags.NONE, None, name, path, "org.freedesktop.systemd1.Manager", None)
print(manager.GetUnit("(s)", "dbus.socket"), manager.get_cached_property("Version").unpack())
""",
}


@pytest.fixture(params=["dbus-daemon", "dbus-broker"])
def machine(request):
    """(fleet, name of a machine whose bus is of that kind)"""
    if request.param == "dbus-daemon":
        return request.getfixturevalue("fleet"), "web1"
    return request.getfixturevalue("broker_fleet"), "broker1"


@pytest.fixture(params=["portal", "mirror"])
def door(request, machine):
    """(address, name, path) of the machine's systemd."""
    fleet, name = machine
    if request.param == "mirror":
        return fleet.session.address, "ie.bmcgee.CBus", fleet.path(name)
    address = fleet.busctl("get-property", "ie.bmcgee.CBus", f"/ie/bmcgee/CBus/{fleet.nkeys[name]}", "ie.bmcgee.CBus1.Machine",
                           "BusAddress").split('"')[1]
    return address, SYSTEMD, ROOT


def run(*argv, **environment):
    done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def version(machine):
    fleet, name = machine
    return fleet.machines[name].run("busctl", "get-property", SYSTEMD, ROOT, MANAGER, "Version").split('"')[1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library(machine, door, library):
    unit, said = run(sys.executable, "-c", LIBRARIES[library], *door).split(maxsplit=1)
    assert (unit, said.strip()) == (door[2] + "/unit/dbus_2esocket", version(machine))


def test_qdbus(machine, door):
    address, name, path = door

    def qdbus(*arguments):
        return run("qdbus", "--system", *arguments, DBUS_SYSTEM_BUS_ADDRESS=address, QT_SELECT="qt5")
    assert name in qdbus().split()
    assert path + "/unit/dbus_2esocket" in qdbus(name).split()
    assert qdbus(name, path, MANAGER + ".Version").strip() == version(machine)
    assert qdbus("--literal", name, path, MANAGER + ".GetUnit", "dbus.socket").strip() == f"[ObjectPath: {path}/unit/dbus_2esocket]"


def test_dfeet(machine, door, tmp_path):
    fleet, name = machine
    address, owner, path = door
    wanted = path + "/unit/dbus_2esocket"
    with Desktop(tmp_path) as desktop:
        shown = desktop.look(address, owner, wanted)
    if owner == SYSTEMD:
        own = fleet.machines[name].run("busctl", "--no-legend", "--no-pager", "list", "--acquired")
        assert {line.split()[0] for line in own.splitlines() if not line.startswith(":")} <= set(shown["names"])
    assert wanted in shown["objects"]
