"""What a hostile or careless broker can do: a NATS client that speaks raw bytes, and a relay that changes what passes.

RawNats publishes and collects messages of any subject. Relay stands between one daemon and nats-server; while its hook
is None everything passes. A hook gets (direction, subject, reply, payload), direction "out" (the daemon published) or
"in" (it is delivered to the daemon), and returns the list of payloads that go on instead. Both run threads of their own
and end with close().
"""
import contextlib
import socket
import threading

from stack import wait_for


class Reader:
    """Lines and counted bytes of one socket."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""

    def fill(self):
        more = self.connection.recv(65536)
        if not more:
            raise ConnectionError("closed")
        self.buffer += more

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def bytes(self, count):
        while len(self.buffer) < count + 2:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count + 2:]
        return data


class RawNats:
    """A client of the broker: publish() anything; `seen` holds (subject, reply, payload) of what subscribe() asked for."""

    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), 5)
        self.connection.settimeout(None)
        self.reader = Reader(self.connection)
        self.reader.line()
        self.seen = []
        self.pongs = 0
        self.sent = 0
        self.ids = 0
        self.lock = threading.Lock()
        self._send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n')
        threading.Thread(target=self._read, daemon=True).start()
        self.flush()

    def _send(self, data):
        with self.lock:
            self.connection.sendall(data)

    def _read(self):
        with contextlib.suppress(OSError):
            while True:
                words = self.reader.line().split()
                if words[0] == b"PING":
                    self._send(b"PONG\r\n")
                elif words[0] == b"PONG":
                    self.pongs += 1
                elif words[0] in (b"MSG", b"HMSG"):
                    extra = 1 if words[0] == b"HMSG" else 0
                    reply = words[3].decode() if len(words) == 5 + extra else ""
                    self.seen.append((words[1].decode(), reply, self.reader.bytes(int(words[-1]))))

    def flush(self):
        """Until the broker has taken everything that was sent."""
        self.sent += 1
        self._send(b"PING\r\n")
        wait_for(lambda: self.pongs >= self.sent, "the broker's PONG")

    def subscribe(self, subject):
        self.ids += 1
        self._send(f"SUB {subject} {self.ids}\r\n".encode())
        self.flush()

    def publish(self, subject, payload, reply=""):
        self._send(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def publish_all(self, messages):
        """Publishes (subject, reply, payload) of MESSAGES in one write, and returns once the broker has them."""
        self._send(b"".join(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
                            for subject, reply, payload in messages))
        self.flush()

    def no_responders(self, subjects):
        """What the broker says where nobody listens, said by a user, to SUBJECTS in one write."""
        header = b"NATS/1.0 503\r\n\r\n"
        self._send(b"".join(f"HPUB {subject} {len(header)} {len(header)}\r\n".encode() + header + b"\r\n" for subject in subjects))
        self.flush()

    def subjects(self, *words):
        """What was seen on subjects that contain all of WORDS as tokens."""
        return [message for message in list(self.seen) if all(word in message[0].split(".") for word in words)]

    def close(self):
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Relay:
    """A port before the broker's; url() is for the daemon that shall be tampered with."""

    def __init__(self, broker_port):
        self.broker_port = broker_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.hook = None
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                daemon, _ = self.listener.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self.broker_port), 5)
                except OSError:
                    daemon.close()
                    continue
                broker.settimeout(None)
                self.sockets += [daemon, broker]
                for source, sink, direction in ((daemon, broker, "out"), (broker, daemon, "in")):
                    threading.Thread(target=self._pump, args=(source, sink, direction), daemon=True).start()

    def _pump(self, source, sink, direction):
        reader = Reader(source)
        try:
            while True:
                line = reader.line()
                words = line.split()
                if words and words[0] in (b"PUB", b"MSG"):
                    self._message(words, reader.bytes(int(words[-1])), sink, direction)
                elif words and words[0] in (b"HPUB", b"HMSG"):
                    sink.sendall(line + b"\r\n" + reader.bytes(int(words[-1])) + b"\r\n")
                else:
                    sink.sendall(line + b"\r\n")
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _message(self, words, payload, sink, direction):
        hook = self.hook
        reply = words[-2].decode() if len(words) == (4 if words[0] == b"PUB" else 5) else ""
        payloads = [payload] if hook is None else hook(direction, words[1].decode(), reply, payload)
        for changed in payloads:
            sink.sendall(b" ".join([*words[:-1], str(len(changed)).encode()]) + b"\r\n" + changed + b"\r\n")

    def cut(self):
        """Ends what connections there are; new ones are taken."""
        sockets, self.sockets = self.sockets, []
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
