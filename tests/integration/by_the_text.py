"""A second implementation of links, written from docs/protocol.md alone: an agent that serves a machine's bus to a real
proxy, and a proxy that drives a real agent. Slow, single-threaded, and without policies, audit or limits of its own.

It shares no code with CBus; the formulas are those of tests/unit/vectors/link.py. What it does and the text does not
say, or says otherwise, is a fault of the text. Only NATS and D-Bus are taken as given: RawNats, a bus's socket, and
GDBus for the messages that the proxy's side makes itself.
"""
import contextlib
import os
import socket
import struct
import threading
import time

from broker import RawNats
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from gi.repository import Gio, GLib
from link_text import (CLOSE, CREDIT, FINISH, HELLO, MESSAGE, OPEN, OPENED, PACKET, PING, PONG, PRESENCE, REFUSED, SERVERINFO, TREE,
                       WELCOME, link_keys, string, vectors)
from stack import wait_for

MORE, ANSWER = 1, 2
NOBODY = 0xFFFFFFFF
VERSIONS = bytes([1, 1]) + bytes(6)


def soon(condition, what):
    """For what comes within a millisecond, thousands of times."""
    return wait_for(condition, what, timeout=30, interval=0.0002)


def take_string(data):
    size = struct.unpack(">I", data[:4])[0]
    return data[4:4 + size].decode(), data[4 + size:]


def verify(identity, role, message, signature):
    Ed25519PublicKey.from_public_bytes(identity).verify(signature, vectors.sshsig_preimage(role, message))


def message_size(head):
    """The whole length of a D-Bus message by its first 16 bytes."""
    order = "<" if head[:1] == b"l" else ">"
    body, _serial, fields = struct.unpack(order + "III", head[4:16])
    return 16 + (fields + 7) // 8 * 8 + body


class Session:
    """Section 6, 7 and 8: packets, records and credit of one link, at one end of it. PUBLISH sends a packet."""

    def __init__(self, transcript, dh, to_agent, publish, payload_max):
        self.id, chains = link_keys(transcript, dh)
        self.chains = chains if to_agent else chains[::-1]  # ours, theirs
        self.numbers = [0, 0]
        self.publish = publish
        self.payload_max = payload_max
        self.position, self.limit, self.asked = 0, 32768, None  # of what we send
        self.received, self.told, self.window, self.wanted = 0, 32768, 32768, 0
        self.queue = []  # of (type, flags, channel, payload): what needs credit
        self.parts = {}  # (channel, type) → bytes so far
        self.answered = {}  # PONGs by their number

    def key(self, way):
        """The packet key of the next packet: chains roll each 4096 packets."""
        number = self.numbers[way]
        if number and number % 4096 == 0:
            self.chains[way] = vectors.kdf(32, 1, b"cbuschan", self.chains[way])
        self.numbers[way] += 1
        return vectors.kdf(32, 2, b"cbuschan", self.chains[way])

    def seal(self, plain):
        number = struct.pack(">Q", self.numbers[0])
        prefix = vectors.header(1, PACKET) + self.id + number
        self.publish(prefix + ChaCha20Poly1305(self.key(0)).encrypt(bytes(4) + number, plain, prefix))

    def open(self, packet):
        """(type, flags, channel, payload) of each record of the next packet; None: drop it."""
        if len(packet) < 48 or packet[:8] != vectors.header(1, PACKET) or packet[8:24] != self.id:
            return None
        number = struct.unpack(">Q", packet[24:32])[0]
        if number < self.numbers[1]:
            return None
        assert number == self.numbers[1], "a packet was lost"
        try:
            plain = ChaCha20Poly1305(self.key(1)).decrypt(bytes(4) + packet[24:32], packet[32:], packet[:32])
        except InvalidTag:
            raise AssertionError("the next packet does not open") from None
        records = []
        while plain:
            kind, flags, zero, channel, size = struct.unpack(">BBHII", plain[:12])
            assert zero == 0 and 12 + size <= len(plain)
            records.append((kind, flags, channel, plain[12:12 + size]))
            plain = plain[12 + size:]
        assert records
        return records

    def control(self, kind, payload=b"", channel=0):
        self.seal(vectors.record(kind, payload, channel))

    def send(self, kind, channel, payload, flags=0):
        """A MESSAGE or TREE, as credit allows."""
        self.queue.append((kind, flags, channel, payload))
        self.flush()

    def flush(self):
        while self.queue:
            kind, flags, channel, payload = self.queue[0]
            room = min(self.limit - self.position - 12, self.payload_max - 48 - 12, 100_000)
            if room < min(len(payload), 1024):
                if self.asked != self.limit:
                    self.asked = self.limit
                    waiting = sum(len(item[3]) + 24 for item in self.queue)
                    self.control(CREDIT, struct.pack(">QQ", self.told, self.position + waiting))
                return
            part, rest = payload[:room], payload[room:]
            self.position += 12 + len(part)
            self.seal(vectors.record(kind, part, channel, flags | (MORE if rest else 0)))
            if rest:
                self.queue[0] = (kind, flags, channel, rest)
            else:
                self.queue.pop(0)

    def take(self, packet):
        """As open(), but what the session itself answers is answered, and parts are put together: only whole
        messages and trees are returned."""
        whole = []
        for kind, flags, channel, payload in self.open(packet) or ():
            if kind == PING:
                self.control(PONG, payload)
            elif kind == PONG:
                self.answered[struct.unpack(">Q", payload)[0]] = True
            elif kind == CREDIT:
                limit, wanted = struct.unpack(">QQ", payload)
                self.limit = max(self.limit, limit)
                self.wanted = wanted or self.wanted
                self.flush()
            elif kind in (MESSAGE, TREE):
                self.received += 12 + len(payload)
                assert self.received <= self.told, "more than was granted"
                gathered = self.parts.pop((channel, kind), b"") + payload
                if flags & MORE:
                    self.parts[channel, kind] = gathered
                else:
                    whole.append((kind, flags, channel, gathered))
            else:
                whole.append((kind, flags, channel, payload))
        if self.wanted > self.received + self.window:
            self.window = min(2 * self.window, 4 << 20)
        if self.told - self.received < self.window // 2 or self.wanted > self.told:
            self.told = self.received + self.window
            self.control(CREDIT, struct.pack(">QQ", self.told, 0))
        return whole


class Peer:
    """A key, an instance and a connection to NATS, whose messages are looked at in order."""

    def __init__(self, nats, key_file):
        self.key = serialization.load_ssh_private_key(key_file.read_bytes(), None)
        self.public = vectors.public(self.key)
        self.nkey = vectors.nkey(self.public).decode()
        self.instance = os.urandom(16)
        self.raw = RawNats(nats.port)
        self.seen = 0
        self.session = None

    def heard(self):
        """The messages that came since the last look: (subject, reply, payload)."""
        while self.seen < len(self.raw.seen):
            self.seen += 1
            yield self.raw.seen[self.seen - 1]


class BusConnection:
    """One D-Bus connection: SASL EXTERNAL, then bytes; read by a thread that hands whole messages to GOT."""

    def __init__(self, path, got, closed):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        self.stream = self.socket.makefile("rb")
        assert self.stream.readline().startswith(b"OK ")
        threading.Thread(target=self.read, args=(got, closed), daemon=True).start()

    def read(self, got, closed):
        with contextlib.suppress(OSError, ValueError):
            while len(head := self.stream.read(16)) == 16:
                got(head + self.stream.read(message_size(head) - 16))
        closed()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Agent(Peer):
    """An agent for one proxy at a time: run() serves until stop()."""

    def __init__(self, nats, key_file, bus_path, operators):
        super().__init__(nats, key_file)
        self.bus_path = bus_path
        self.operators = operators
        self.halves = {}  # link id → (session, transcript, proxy identity)
        self.channels = {}
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.beat = 0
        self.failed = None
        for subject in (f"{self.nkey}.in", f"{self.nkey}.in.{self.instance.hex()}", "who"):
            self.raw.subscribe(f"cbus.v1.{subject}")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def announce(self, farewell=False):
        self.beat += 1
        self.raw.publish(f"cbus.v1.{self.nkey}.here", vectors.header(1, PRESENCE) + self.public + self.instance
                         + struct.pack(">Q", self.beat) + bytes([farewell]) + bytes(7))

    def run(self):
        try:
            due = 0
            while not self.stopping.is_set():
                if time.monotonic() >= due:
                    self.announce()
                    due = time.monotonic() + 5
                for subject, _reply, payload in self.heard():
                    with self.lock:
                        self.take(subject, payload)
                self.stopping.wait(0.002)
        except BaseException as error:  # for the test to see
            self.failed = error
            raise

    def take(self, subject, payload):
        if subject == "cbus.v1.who":
            self.announce()
        elif len(payload) == 144 and payload[:8] == vectors.header(1, HELLO):
            self.welcome(payload)
        elif payload[:8] == vectors.header(1, PACKET) and payload[8:24] in self.halves:
            self.finish(*self.halves.pop(payload[8:24]), payload)
        elif self.session is not None:
            for record in self.session.take(payload):
                self.obey(*record)

    def welcome(self, hello):
        if hello[8:56] != self.public + self.instance or hello[104] > 1 or hello[106:112] != bytes(6):
            return
        ephemeral = X25519PrivateKey.generate()
        unsigned = vectors.header(1, WELCOME) + vectors.H(hello)[:32] + vectors.public(ephemeral) + VERSIONS
        th = vectors.H(vectors.H(hello) + unsigned)
        signature = self.key.sign(vectors.sshsig_preimage(b"agent", th))
        transcript = vectors.H(th + signature)
        out = f"cbus.v1.{self.nkey}.out.{vectors.nkey(hello[56:88]).decode()}.{hello[88:104].hex()}"
        session = Session(transcript, ephemeral.exchange(X25519PublicKey.from_public_bytes(hello[112:])), False,
                          lambda packet: self.raw.publish(out, packet), 1 << 20)
        self.halves[session.id] = (session, transcript, hello[56:88])
        self.raw.publish(out, unsigned + signature)

    def finish(self, session, transcript, proxy, packet):
        (kind, flags, channel, signature), = session.open(packet)
        assert (kind, flags, channel) == (FINISH, 0, 0)
        try:
            verify(proxy, b"proxy", transcript, signature)
        except InvalidSignature:
            return
        if proxy not in self.operators:
            session.control(REFUSED, string("org.freedesktop.DBus.Error.AccessDenied") + string("you are not on my list"))
            return
        self.end_channels()
        self.session = session
        session.control(SERVERINFO, string("by-the-text") + string("") + string("") + string("text/1"))

    def obey(self, kind, flags, channel, payload):
        if kind == OPEN:
            assert len(payload) == 8 and payload[4:] == bytes(4)
            session = self.session
            self.channels[channel] = BusConnection(self.bus_path, lambda message: self.from_bus(session, channel, message),
                                                   lambda: self.bus_closed(session, channel))
            session.control(OPENED, channel=channel)
        elif kind == MESSAGE and channel in self.channels:
            self.channels[channel].socket.sendall(payload)
        elif kind == TREE:
            assert flags == 0
            destination, rest = take_string(payload[4:])
            assert rest == b""
            self.session.send(TREE, channel, payload[:4] + self.walk(destination), ANSWER)
        elif kind == CLOSE and channel != 0:
            self.channels.pop(channel).close()
        elif kind == CLOSE:
            self.session = None
            self.end_channels()

    def from_bus(self, session, channel, message):
        with self.lock:
            if self.session is session and channel in self.channels:
                session.send(MESSAGE, channel, message)

    def bus_closed(self, session, channel):
        with self.lock:
            if self.session is session and self.channels.pop(channel, None) is not None:
                session.control(CLOSE, string("org.freedesktop.DBus.Error.Disconnected") + string("the bus is gone"), channel)

    def walk(self, destination):
        """Section 11, on a connection of its own, which the text leaves open to nobody but us: it asks the same bus."""
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        bus = Gio.DBusConnection.new_for_address_sync(f"unix:path={self.bus_path}", flags, None, None)
        documents, objects, paths = [], {}, ["/"]
        while paths:
            path = paths.pop()
            try:
                xml = bus.call_sync(destination, path, "org.freedesktop.DBus.Introspectable", "Introspect", None, None,
                                    Gio.DBusCallFlags.NO_AUTO_START, 5000, None).unpack()[0]
            except GLib.Error as error:
                return b"\0" + string(Gio.DBusError.get_remote_error(error) or "org.freedesktop.DBus.Error.Failed") + string(error.message)
            objects[path] = xml
            paths += [path.rstrip("/") + "/" + node.path for node in Gio.DBusNodeInfo.new_for_xml(xml).nodes]
        bus.close_sync(None)
        for path in sorted(objects, key=str.encode):
            if objects[path] not in documents:
                documents.append(objects[path])
        return (b"\1\1" + struct.pack(">I", len(documents)) + b"".join(map(string, documents)) + struct.pack(">I", len(objects))
                + b"".join(string(path) + struct.pack(">I", documents.index(objects[path]))
                           for path in sorted(objects, key=str.encode)))

    def end_channels(self):
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.close()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        with self.lock:
            if self.session is not None:
                self.session.control(CLOSE, string("") + string("the text ends here"))
            self.session = None
        self.end_channels()
        self.announce(farewell=True)
        self.raw.flush()
        self.raw.close()
        if self.failed is not None:
            raise self.failed


class Proxy(Peer):
    """A proxy with a link to one agent: link(), open(), then call() and tree()."""

    def __init__(self, nats, key_file, agent):
        super().__init__(nats, key_file)
        self.agent = agent
        self.agent_nkey = vectors.nkey(agent).decode()
        self.last_channel = 0
        self.serial = 0
        self.records = []  # whole ones that nobody asked for yet
        me = f"{self.nkey}.{self.instance.hex()}"
        for subject in (f"*.out.{me}", f"*.gone.{me}", "*.here"):
            self.raw.subscribe(f"cbus.v1.{subject}")
        self.gone = f"cbus.v1.{self.agent_nkey}.gone.{me}"

    def next(self, kind):
        """The payload of the next message that begins with the header of KIND and is of our agent."""
        def found():
            for subject, _reply, payload in self.heard():
                if payload[:8] == vectors.header(1, kind) and subject.startswith(f"cbus.v1.{self.agent_nkey}."):
                    return payload
            return None
        return soon(found, f"a message of kind {kind}")

    def link(self):
        """Handshake; the four strings of SERVERINFO, or (error name, message) of REFUSED."""
        self.raw.publish("cbus.v1.who", b"")
        presence = self.next(PRESENCE)
        assert len(presence) == 72 and presence[8:40] == self.agent and presence[64] == 0
        agent_instance = presence[40:56]
        ephemeral = X25519PrivateKey.generate()
        hello = (vectors.header(1, HELLO) + self.agent + agent_instance + self.public + self.instance + VERSIONS
                 + vectors.public(ephemeral))
        self.raw.publish(f"cbus.v1.{self.agent_nkey}.in", hello, self.gone)
        welcome = self.next(WELCOME)
        assert len(welcome) == 144 and welcome[8:40] == vectors.H(hello)[:32] and welcome[72:80] == VERSIONS
        th = vectors.H(vectors.H(hello) + welcome[:80])
        verify(self.agent, b"agent", th, welcome[80:])
        transcript = vectors.H(th + welcome[80:])
        target = f"cbus.v1.{self.agent_nkey}.in.{agent_instance.hex()}"
        self.session = Session(transcript, ephemeral.exchange(X25519PublicKey.from_public_bytes(welcome[40:72])), True,
                               lambda packet: self.raw.publish(target, packet, self.gone), 1 << 20)
        self.session.control(FINISH, self.key.sign(vectors.sshsig_preimage(b"proxy", transcript)))
        kind, _flags, _channel, payload = self.record(lambda record: record[0] in (SERVERINFO, REFUSED))
        strings = []
        while payload:
            value, payload = take_string(payload)
            strings.append(value)
        assert len(strings) == (4 if kind == SERVERINFO else 2)
        return strings

    def pump(self):
        for _subject, _reply, payload in self.heard():
            self.records += self.session.take(payload)

    def record(self, wanted):
        """The first whole record for which WANTED is true; those before it stay."""
        def found():
            self.pump()
            for record in self.records:
                if wanted(record):
                    self.records.remove(record)
                    return record
            return None
        return soon(found, "a record")

    def ping(self, number):
        self.session.control(PING, struct.pack(">Q", number))
        soon(lambda: self.pump() or self.session.answered.pop(number, False), "the PONG")

    def ask(self):
        """Opens one more channel: its id, and None or (error name, message) of REFUSED."""
        self.last_channel += 1
        channel = self.last_channel
        self.session.control(OPEN, struct.pack(">II", NOBODY, 0), channel)
        kind, _flags, _channel, payload = self.record(lambda record: record[0] in (OPENED, REFUSED) and record[2] == channel)
        if kind == OPENED:
            return channel, None
        name, payload = take_string(payload)
        return channel, (name, take_string(payload)[0])

    def open(self):
        """A channel, with Hello said in it; its id and the unique name."""
        self.last_channel += 1
        channel = self.last_channel
        self.session.control(OPEN, struct.pack(">II", NOBODY, 0), channel)
        name, = self.call(channel, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        assert self.record(lambda record: record[0] in (OPENED, REFUSED) and record[2] == channel)[0] == OPENED
        return channel, name

    def call(self, channel, destination, path, interface, member, body=None):
        """The values of the reply; GLib.Error for an error."""
        self.serial += 1
        message = Gio.DBusMessage.new_method_call(destination, path, interface, member)
        message.set_serial(self.serial)
        if body is not None:
            message.set_body(body)
        self.session.send(MESSAGE, channel, message.to_blob(Gio.DBusCapabilityFlags.NONE))

        def answer(record):
            if record[0] != MESSAGE or record[2] != channel:
                return False
            assert message_size(record[3][:16]) == len(record[3])
            return Gio.DBusMessage.new_from_blob(record[3], Gio.DBusCapabilityFlags.NONE).get_reply_serial() == message.get_serial()

        reply = Gio.DBusMessage.new_from_blob(self.record(answer)[3], Gio.DBusCapabilityFlags.NONE)
        reply.to_gerror()  # raises what an error says
        return reply.get_body().unpack() if reply.get_body() is not None else ()

    def tree(self, channel, number, destination):
        """{path: document} of a service; or (error name, message)."""
        self.session.send(TREE, channel, struct.pack(">I", number) + string(destination))
        _kind, flags, _channel, payload = self.record(lambda record: record[0] == TREE and record[2] == channel)
        assert flags == ANSWER and struct.unpack(">I", payload[:4])[0] == number
        good, payload = payload[4], payload[5:]
        if not good:
            name, payload = take_string(payload)
            message, payload = take_string(payload)
            assert payload == b""
            return name, message
        assert payload[0] == 1
        documents, objects, payload = [], {}, payload[1:]
        count, payload = struct.unpack(">I", payload[:4])[0], payload[4:]
        for _ in range(count):
            document, payload = take_string(payload)
            documents.append(document)
        count, payload = struct.unpack(">I", payload[:4])[0], payload[4:]
        for _ in range(count):
            path, payload = take_string(payload)
            objects[path], payload = documents[struct.unpack(">I", payload[:4])[0]], payload[4:]
        assert payload == b""
        return objects

    def close(self):
        if self.session is not None:
            self.session.control(CLOSE, string("") + string("done"))
            self.raw.flush()
        self.raw.close()
