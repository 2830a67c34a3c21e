"""A stand-in for a message bus with cbus-proxy on it that goes right behind one message, wherever that stands.

To a client that talks to it it is a bus: SASL, Hello, replies to what cbus asks of the driver and of the proxy. It closes
the connection in the same breath as it answers the chosen call (or instead of answering it), so that the client never
comes to look before the end is there.
"""
import contextlib
import os
import socket
import struct
import threading

from gi.repository import Gio, GLib

XML = """<node><interface name="com.example.Test"><property name="Level" type="u" access="read"/>
<method name="Reset"/></interface></node>"""
ROSTER_TYPE = "(a{oa{sa{sv}}})"


def size_of(head):
    """The whole length of a D-Bus message by its first 16 bytes."""
    body, _serial, fields = struct.unpack(("<" if head[:1] == b"l" else ">") + "III", head[4:16])
    return 16 + (fields + 7) // 8 * 8 + body


class DyingBus:
    """Goes at the NUMBERth call of MEMBER, which it ANSWERS or not; what it does not know it leaves unanswered."""

    def __init__(self, directory, nkey, member, number=1, answers=True):
        self.path = directory / "dying-bus"
        self.nkey, self.member, self.left, self.answers = nkey, member, number, answers
        self.seen = []  # members
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return f"unix:path={self.path}"

    def serve(self):
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rb") as stream:
                self.authenticate(connection, stream)
                while len(head := stream.read(16)) == 16:
                    if not self.take(connection, Gio.DBusMessage.new_from_blob(head + stream.read(size_of(head) - 16), 0)):
                        return

    def authenticate(self, connection, stream):
        while (line := stream.readline().strip(b"\0\r\n")) != b"BEGIN":
            if line.startswith(b"AUTH EXTERNAL"):
                connection.sendall(b"OK " + os.urandom(16).hex().encode() + b"\r\n")
            elif line == b"NEGOTIATE_UNIX_FD":
                connection.sendall(b"AGREE_UNIX_FD\r\n")
            else:
                connection.sendall(b"REJECTED EXTERNAL\r\n")

    def take(self, connection, message):
        """FALSE: that was the end."""
        member = message.get_member()
        self.seen.append(member)
        self.left -= member == self.member
        last = member == self.member and self.left == 0
        reply = self.reply_to(message) if self.answers or not last else None
        if reply is not None:
            reply.set_sender("org.freedesktop.DBus")
            reply.set_destination(":1.1")
            connection.sendall(reply.to_blob(0))
        return not last

    def reply_to(self, message):
        bodies = {
            "Hello": ("(s)", (":1.1",)), "AddMatch": ("()", ()), "RemoveMatch": ("()", ()), "GetNameOwner": ("(s)", (":1.2",)),
            "Introspect": ("(s)", (XML,)), "GetManagedObjects": (ROSTER_TYPE, (self.roster(),)), "Reset": ("()", ()),
            "Get": ("(v)", (GLib.Variant("u", 1),)),
        }
        member = message.get_member()
        if member not in bodies:
            return None
        reply = message.new_method_reply()
        reply.set_serial(len(self.seen))
        reply.set_body(GLib.Variant(*bodies[member]))
        return reply

    def roster(self):
        machine = {"NKey": "s", "Name": "s", "NamePinned": "b", "Online": "b", "State": "s"}
        values = {"NKey": self.nkey, "Name": "web1", "NamePinned": True, "Online": True, "State": "online"}
        return {f"/ie/bmcgee/CBus/{self.nkey}":
                {"ie.bmcgee.CBus1.Machine": {name: GLib.Variant(kind, values[name]) for name, kind in machine.items()}}}

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
