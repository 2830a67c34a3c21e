"""Drives a running d-feet through its accessibility tree: connects it to another bus and reads what it shows.

    drive_dfeet.py ADDRESS NAME OBJECT

Prints {"names": bus names that d-feet lists for ADDRESS, "objects": what it shows of NAME, once OBJECT is among it}. The
session bus is the desktop's, with d-feet and the accessibility bus on it.
"""
import contextlib
import json
import re
import sys

import pyatspi
from gi.repository import Gio, GLib
from programs import wait_for

TIMEOUT_S = 60


def wait_for_shown(condition, what):
    def shown():
        with contextlib.suppress(GLib.Error):  # a widget that went away while it was looked at
            return condition()
        return None
    return wait_for(shown, what, TIMEOUT_S, 0.05)


def below(widget):
    """WIDGET and everything in it that is shown."""
    yield widget
    for child in widget:
        if child is not None:
            yield from below(child)


def find(top, role, name=None):
    return next((w for w in below(top) if w.getRole() == role and (name is None or w.name == name)), None)


def dfeet():
    return next((app for app in pyatspi.Registry.getDesktop(0) if app is not None and app.name == "d-feet"), None)


def connect(address):
    """The menu's "Connect to other Bus", and its dialog."""
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)
    wait_for_shown(lambda: bus.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner",
                                         GLib.Variant("(s)", ("org.gnome.dfeet",)), None, 0, -1, None).unpack()[0], "d-feet on the bus")
    window = ("org.gnome.dfeet", "/org/gnome/dfeet/window/1", "org.gtk.Actions")
    wait_for_shown(dfeet, "d-feet to be accessible")
    wait_for_shown(lambda: "connect-other-bus" in bus.call_sync(*window, "List", None, None, 0, -1, None).unpack()[0], "the window of d-feet")
    # Its answer comes when the dialog is closed.
    bus.call(*window, "Activate", GLib.Variant("(sava{sv})", ("connect-other-bus", [], {})), None, 0, -1, None, None)
    bus.flush_sync()
    dialog = wait_for_shown(lambda: find(dfeet(), pyatspi.ROLE_DIALOG), "the dialog for another bus")
    entry = wait_for_shown(lambda: find(dialog, pyatspi.ROLE_TEXT), "its entry")
    entry.queryEditableText().setTextContents(address)
    button = next(w for w in below(dialog) if w.getRole() == pyatspi.ROLE_PUSH_BUTTON and w.name.replace("_", "") == "Connect")
    button.queryAction().doAction(0)


def names():
    """Names in the list of the bus that is shown, with their rows."""
    found = {}
    for box in (w for w in below(dfeet()) if w.getRole() == pyatspi.ROLE_LIST_BOX and w.getState().contains(pyatspi.STATE_SHOWING)):
        for row in box:
            texts = (re.sub(r"<[^>]*>", "", w.name) for w in below(row) if w.getRole() == pyatspi.ROLE_LABEL)
            found.update((text, row) for text in texts if re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)+", text))
    return found


def objects():
    """Texts of the tree on the right, of the bus that is shown."""
    trees = (w for w in below(dfeet()) if w.getRole() == pyatspi.ROLE_TREE_TABLE and w.getState().contains(pyatspi.STATE_SHOWING))
    return [cell.name for tree in trees for cell in below(tree) if cell.name.startswith("/")]


def main():
    address, name, wanted = sys.argv[1:]
    connect(address)
    wait_for_shown(lambda: name in names(), f"{name} in the list")
    listed = names()
    row = listed[name]
    row.parent.querySelection().selectChild(row.getIndexInParent())
    shown = wait_for_shown(lambda: wanted in (seen := objects()) and seen, f"{wanted} of {name}")
    print(json.dumps({"names": sorted(listed), "objects": shown}))


main()
