"""A NATS client that publishes, to say on the broker what no agent would."""
import base64
import binascii
import json
import os
import socket
import struct


class Nats:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.stream = self.socket.makefile("rb")
        self.info = json.loads(self.stream.readline().split(b" ", 1)[1])
        self.socket.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"python"}\r\n')
        self.flush()

    def publish(self, subject, payload):
        self.socket.sendall(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))

    def flush(self):
        """Until the server took everything."""
        self.socket.sendall(b"PING\r\n")
        while (line := self.stream.readline()) != b"PONG\r\n":
            assert line, "the server closed the connection"
            if line == b"PING\r\n":
                self.socket.sendall(b"PONG\r\n")

    def close(self):
        self.stream.close()
        self.socket.close()


def nkey(public):
    """Role byte, key, CRC16 (XMODEM) little-endian; base32."""
    body = bytes([20 << 3]) + public
    body += binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body).decode().rstrip("=")


def presence(public, instance=None, beat=1, farewell=False):
    """(subject, payload), as docs/protocol.md has it."""
    payload = struct.pack(">4sBBH32s16sQB7x", b"CBUS", 1, 4, 0, public, instance or os.urandom(16), beat, farewell)
    return f"cbus.v1.{nkey(public)}.here", payload
