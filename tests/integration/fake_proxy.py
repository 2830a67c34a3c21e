#!/usr/bin/python3
"""A stand-in for cbus-proxy's roster, to show the command line what real machines would not: hostile names, odd states.

Lines of JSON on standard input: {"own": true|false}, {"machine": NKEY, "properties": {…}} (new or changed),
{"gone": NKEY}, {"hang": true}. Each is answered by a line "ok". The bus is DBUS_SESSION_BUS_ADDRESS's.
"""
import json
import sys
import threading

from gi.repository import Gio, GLib

ROOT = "/ie/bmcgee/CBus"
MACHINE = "ie.bmcgee.CBus1.Machine"
TYPES = {"NKey": "s", "Name": "s", "NamePinned": "b", "Online": "b", "State": "s", "LastError": "s", "LastSeen": "t",
         "RoundTrip": "t", "MachineId": "s", "BootId": "s", "Version": "s", "BusAddress": "s", "Services": "as",
         "SignalsLost": "t", "Tags": "as"}
XML = """<node><interface name="org.freedesktop.DBus.ObjectManager">
<method name="GetManagedObjects"><arg type="a{oa{sa{sv}}}" direction="out"/></method></interface></node>"""


class Proxy:
    def __init__(self):
        self.bus = Gio.bus_get_sync(Gio.BusType.SESSION, None)
        self.machines = {}
        self.hang = False
        info = Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0]
        self.bus.register_object(ROOT, info, self.on_call, None, None)

    def on_call(self, bus, sender, path, interface, method, parameters, invocation):
        if not self.hang:
            objects = {f"{ROOT}/{nkey}": {MACHINE: properties} for nkey, properties in self.machines.items()}
            invocation.return_value(GLib.Variant("(a{oa{sa{sv}}})", (objects,)))

    def emit(self, path, interface, member, signature, body):
        self.bus.emit_signal(None, path, interface, member, GLib.Variant(signature, body))

    def own(self, wanted):
        call = ("RequestName", "(su)", ("ie.bmcgee.CBus", 4)) if wanted else ("ReleaseName", "(s)", ("ie.bmcgee.CBus",))
        self.bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", call[0],
                           GLib.Variant(call[1], call[2]), None, 0, -1, None)

    def machine(self, nkey, values):
        changed = {name: GLib.Variant(TYPES[name], value) for name, value in values.items()}
        path = f"{ROOT}/{nkey}"
        if nkey in self.machines:
            self.machines[nkey].update(changed)
            self.emit(path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "(sa{sv}as)", (MACHINE, changed, []))
        else:
            self.machines[nkey] = {"NKey": GLib.Variant("s", nkey), **changed}
            self.emit(ROOT, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "(oa{sa{sv}})",
                      (path, {MACHINE: self.machines[nkey]}))

    def gone(self, nkey):
        del self.machines[nkey]
        self.emit(ROOT, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", "(oas)", (f"{ROOT}/{nkey}", [MACHINE]))

    def obey(self, order):
        if "own" in order:
            self.own(order["own"])
        elif "machine" in order:
            self.machine(order["machine"], order["properties"])
        elif "gone" in order:
            self.gone(order["gone"])
        else:
            self.hang = order["hang"]
        self.bus.flush_sync(None)
        print("ok", flush=True)


def main():
    loop = GLib.MainLoop()
    proxy = Proxy()

    def read():
        for line in sys.stdin:
            GLib.idle_add(proxy.obey, json.loads(line))
        GLib.idle_add(loop.quit)

    threading.Thread(target=read, daemon=True).start()
    loop.run()


main()
