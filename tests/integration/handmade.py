"""Either end of a link made by hand from docs/protocol.md, to say what neither daemon would: operators and machines that
hold a key and are hostile all the same.

An Operator plays the proxy's part towards a real agent, a Machine the agent's towards a real proxy; both over a real
broker, with the handshake and the packets of tests/unit/vectors/link.py, which shares no code with CBus. Each step is a
call of its own, so that a test can stop, repeat or change any of them.
"""
import os
import struct

from broker import RawNats
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from gi.repository import Gio, GLib
from link_text import FINISH, HELLO, MESSAGE, OPEN, PACKET, PRESENCE, REFUSED, SERVERINFO, WELCOME, link_keys, string, vectors
from stack import wait_for



def kind(payload):
    return payload[5] if len(payload) >= 8 and payload[:4] == b"CBUS" else 0


def key_of(file):
    return serialization.load_ssh_private_key(file.read_bytes(), None)


def texts(payload):
    """The strings that PAYLOAD consists of."""
    found = []
    while payload:
        size = struct.unpack(">I", payload[:4])[0]
        found.append(payload[4:4 + size].decode())
        payload = payload[4 + size:]
    return found


def call(destination, path, interface, member, *body, serial=1):
    """A D-Bus call's bytes; BODY is a GVariant's type and value, or nothing."""
    message = Gio.DBusMessage.new_method_call(destination, path, interface, member)
    message.set_serial(serial)
    if body:
        message.set_body(GLib.Variant(*body))
    return message.to_blob(Gio.DBusCapabilityFlags.NONE)


class Session:
    """Packets of one link, at one end of it."""

    def __init__(self, transcript, dh, at_proxy, version=1):
        self.link_id, chains = link_keys(transcript, dh)
        self.out, self.back = (vectors.Direction(version, self.link_id, chain) for chain in (chains if at_proxy else chains[::-1]))
        self.sent = self.taken = 0

    def seal(self, *records):
        self.sent += 1
        return self.out.seal(self.sent - 1, b"".join(records))

    def open(self, packet):
        """The records of the next packet as (type, channel, payload); None when it is not that."""
        prefix, number = packet[:32], struct.unpack(">Q", packet[24:32])[0]
        if packet[8:24] != self.link_id or number != self.taken:
            return None
        try:
            plain = ChaCha20Poly1305(self.back.key(number)).decrypt(bytes(4) + packet[24:32], packet[32:], prefix)
        except InvalidTag:
            return None
        self.taken += 1
        records = []
        while plain:
            record, _flags, _zero, channel, size = struct.unpack(">BBHII", plain[:12])
            records.append((record, channel, plain[12:12 + size]))
            plain = plain[12 + size:]
        return records


class Peer:
    """What both have: a key, an instance, a connection to the broker, and what was heard there in order."""

    def __init__(self, port, key=None):
        self.key = key or Ed25519PrivateKey.generate()
        self.public = vectors.public(self.key)
        self.nkey = vectors.nkey(self.public).decode()
        self.instance = os.urandom(16)
        self.raw = RawNats(port)
        self.heard = 0
        self.session = None
        self.waiting = []  # records of a packet that were not looked at yet

    def close(self):
        self.raw.close()

    def next(self, wanted, timeout=10):
        """The next message of a kind that was not looked at yet, past all others."""
        def found():
            while self.heard < len(self.raw.seen):
                self.heard += 1
                if kind(self.raw.seen[self.heard - 1][2]) == wanted:
                    return self.raw.seen[self.heard - 1][2]
            return None
        return wait_for(found, f"a message of kind {wanted} for {self.nkey[:8]}", timeout)

    def heard_nothing(self, wanted):
        """Whether nothing of this kind came since the last look."""
        self.raw.flush()
        return not any(kind(payload) == wanted for _s, _r, payload in list(self.raw.seen)[self.heard:])

    def records(self, *wanted, timeout=10):
        """The next record of one of these types, past all others."""
        while True:
            while self.waiting:
                record = self.waiting.pop(0)
                if record[0] in wanted:
                    return record
            self.waiting = self.session.open(self.next(PACKET, timeout)) or []


class Operator(Peer):
    """The proxy's part, towards the agent AGENT (its public key)."""

    def __init__(self, port, agent, key=None, instance=None):
        """INSTANCE: the agent's, where that is known already."""
        super().__init__(port, key)
        self.agent = agent
        self.agent_nkey = vectors.nkey(agent).decode()
        self.raw.subscribe(f"cbus.v1.*.out.{self.nkey}.{self.instance.hex()}")
        self.raw.subscribe(f"cbus.v1.{self.agent_nkey}.here")
        self.agent_instance = instance or self.find()

    def find(self):
        self.raw.publish("cbus.v1.who", b"")
        return self.next(PRESENCE)[40:56]

    def make_hello(self, versions=(1, 1), ephemeral=None, proxy=None):
        self.ephemeral = X25519PrivateKey.generate()
        return (vectors.header(1, HELLO) + self.agent + self.agent_instance + (proxy or self.public) + self.instance
                + bytes(versions) + bytes(6) + (ephemeral or vectors.public(self.ephemeral)))

    def say(self, hello):
        self.raw.publish(f"cbus.v1.{self.agent_nkey}.in", hello)

    def send(self, packet, instance=None):
        self.raw.publish(f"cbus.v1.{self.agent_nkey}.in.{(instance or self.agent_instance).hex()}", packet)

    def take(self, hello, welcome):
        """Derives the link's keys; T."""
        assert welcome[8:40] == vectors.H(hello)[:32]
        th = vectors.H(vectors.H(hello) + welcome[:80])
        transcript = vectors.H(th + welcome[80:])
        self.session = Session(transcript, self.ephemeral.exchange(X25519PublicKey.from_public_bytes(welcome[40:72])), True)
        return transcript

    def finish_record(self, transcript):
        return vectors.record(FINISH, self.key.sign(vectors.sshsig_preimage(b"proxy", transcript)))

    def half_open(self):
        """Hello and welcome; returns the finish that is to be sent."""
        hello = self.make_hello()
        self.say(hello)
        return self.session_of(hello)

    def session_of(self, hello):
        return self.finish_record(self.take(hello, self.next(WELCOME)))

    def link(self):
        """A whole handshake; returns what the machine says of itself, or raises what it refuses with."""
        finish = self.half_open()
        self.send(self.session.seal(finish))
        record, _channel, payload = self.records(SERVERINFO, REFUSED)
        if record == REFUSED:
            raise PermissionError(*texts(payload))
        return texts(payload)


    def open_channel(self):
        """Channel 1, in which Hello was said with serial 1."""
        self.send(self.session.seal(
            vectors.record(OPEN, b"\xff\xff\xff\xff\0\0\0\0", 1),
            vectors.record(MESSAGE, call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"), 1)))
        assert self.answers(1) == [None]

    def call(self, *calls):
        """Sends CALLS on channel 1, in one packet."""
        self.send(self.session.seal(*(vectors.record(MESSAGE, blob, 1) for blob in calls)))

    def answers(self, *serials):
        """The names of the errors (None: a return) that the calls SERIALS get."""
        got = {}
        while not got.keys() >= set(serials):
            message = Gio.DBusMessage.new_from_blob(self.records(MESSAGE)[2], Gio.DBusCapabilityFlags.NONE)
            if message.get_reply_serial() in serials:
                got[message.get_reply_serial()] = message.get_error_name()
        return [got[serial] for serial in serials]


class Machine(Peer):
    """The agent's part, towards whichever proxy says hello."""

    def __init__(self, port, key=None):
        super().__init__(port, key)
        self.raw.subscribe(f"cbus.v1.{self.nkey}.in")
        self.raw.subscribe(f"cbus.v1.{self.nkey}.in.{self.instance.hex()}")

    def announce(self):
        self.raw.publish(f"cbus.v1.{self.nkey}.here",
                         vectors.header(1, PRESENCE) + self.public + self.instance + struct.pack(">Q", 1) + bytes(8))

    def accept(self):
        """Announces itself and takes the handshake that this brings."""
        self.announce()
        hello = self.next(HELLO)
        ephemeral = X25519PrivateKey.generate()
        unsigned = (vectors.header(1, WELCOME) + vectors.H(hello)[:32] + vectors.public(ephemeral) + bytes([1, 1]) + bytes(6))
        th = vectors.H(vectors.H(hello) + unsigned)
        signature = self.key.sign(vectors.sshsig_preimage(b"agent", th))
        self.out = f"cbus.v1.{self.nkey}.out.{vectors.nkey(hello[56:88]).decode()}.{hello[88:104].hex()}"
        self.session = Session(vectors.H(th + signature), ephemeral.exchange(X25519PublicKey.from_public_bytes(hello[112:])),
                               False)
        self.raw.publish(self.out, unsigned + signature)
        self.records(FINISH)

    def tell(self, name, machine_id="", boot_id="", version="1"):
        """What the machine says of itself: with it the link is up, and it may come again."""
        self.raw.publish(self.out, self.session.seal(
            vectors.record(SERVERINFO, b"".join(string(value) for value in (name, machine_id, boot_id, version)))))
