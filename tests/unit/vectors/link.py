#!/usr/bin/env python3
"""Test vectors of the handshake and of packets, made without any code of CBus.

Written from docs/protocol.md with Python's hashlib and the `cryptography` package, so that a mistake in wire/ can not
hide in vectors that wire/ itself made. Prints `name hex` lines; link.txt beside this file is its output.

    link.py > link.txt      make them anew
    link.py --check         compare with link.txt and docs/protocol.md; exit 77 where `cryptography` is missing
"""
import base64
import binascii
import hashlib
import pathlib
import struct
import sys

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    print("the Python package 'cryptography' is missing", file=sys.stderr)
    sys.exit(77)


def span(first, count):
    return bytes(range(first, first + count))


def header(version, kind):
    return b"CBUS" + bytes([version, kind, 0, 0])


def H(data):
    return hashlib.blake2b(data, digest_size=64).digest()


def kdf(size, number, context, key):
    """crypto_kdf_derive_from_key: BLAKE2b, the number as salt, the context as personalisation."""
    return hashlib.blake2b(b"", digest_size=size, key=key, salt=struct.pack("<Q", number) + bytes(8),
                           person=context + bytes(8)).digest()


def string(data):
    return struct.pack(">I", len(data)) + data


def sshsig_preimage(role, message):
    space = b"link-%s-v1@cbus.bmcgee.ie" % role
    return b"SSHSIG" + string(space) + string(b"") + string(b"sha512") + string(hashlib.sha512(message).digest())


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def nkey(identity):
    raw = bytes([20 << 3]) + identity
    return base64.b32encode(raw + struct.pack("<H", binascii.crc_hqx(raw, 0)))


def record(kind, payload, channel=0, flags=0):
    return struct.pack(">BBHII", kind, flags, 0, channel, len(payload)) + payload


class Direction:
    """Seals the packets of one direction; numbers may be jumped over."""

    def __init__(self, version, link_id, chain):
        self.version, self.link_id, self.chain = version, link_id, chain

    def key(self, number):
        chain = self.chain
        for _ in range(number >> 12):
            chain = kdf(32, 1, b"cbuschan", chain)
        return kdf(32, 2, b"cbuschan", chain)

    def seal(self, number, plain):
        prefix = header(self.version, 3) + self.link_id + struct.pack(">Q", number)
        nonce = bytes(4) + struct.pack(">Q", number)
        return prefix + ChaCha20Poly1305(self.key(number)).encrypt(nonce, plain, prefix)


def vectors():
    agent_seed, proxy_seed = span(0x00, 32), span(0x20, 32)
    agent_instance, proxy_instance = span(0x40, 16), span(0x50, 16)
    proxy_ephemeral, agent_ephemeral = span(0x60, 32), span(0x80, 32)
    yield "agent-seed", agent_seed
    yield "proxy-seed", proxy_seed
    yield "agent-instance", agent_instance
    yield "proxy-instance", proxy_instance
    yield "proxy-ephemeral", proxy_ephemeral
    yield "agent-ephemeral", agent_ephemeral

    agent, proxy = (Ed25519PrivateKey.from_private_bytes(seed) for seed in (agent_seed, proxy_seed))
    yield "agent-identity", public(agent)
    yield "proxy-identity", public(proxy)
    yield "agent-nkey", nkey(public(agent))
    yield "proxy-nkey", nkey(public(proxy))

    ours, theirs = (X25519PrivateKey.from_private_bytes(secret) for secret in (proxy_ephemeral, agent_ephemeral))
    versions = bytes([1, 1]) + bytes(6)
    hello = (header(1, 1) + public(agent) + agent_instance + public(proxy) + proxy_instance + versions
             + public(ours))
    yield "hello", hello

    unsigned = header(1, 2) + H(hello)[:32] + public(theirs) + versions
    th = H(H(hello) + unsigned)
    signature = agent.sign(sshsig_preimage(b"agent", th))
    welcome = unsigned + signature
    T = H(th + signature)
    yield "hello-hash", H(hello)
    yield "th", th
    yield "welcome", welcome
    yield "T", T

    dh = ours.exchange(X25519PublicKey.from_public_bytes(public(theirs)))
    prk = hashlib.blake2b(b"cbus1 link" + T, digest_size=32, key=dh).digest()
    link_id = kdf(16, 1, b"cbuslink", prk)
    to_agent = Direction(1, link_id, kdf(32, 2, b"cbuslink", prk))
    to_proxy = Direction(1, link_id, kdf(32, 3, b"cbuslink", prk))
    yield "dh", dh
    yield "prk", prk
    yield "link-id", link_id
    yield "chain-to-agent", to_agent.chain
    yield "chain-to-proxy", to_proxy.chain

    finish = record(1, proxy.sign(sshsig_preimage(b"proxy", T)))
    for name, direction in (("to-agent", to_agent), ("to-proxy", to_proxy)):
        for number in (0, 4095, 4096):
            ping = record(7, struct.pack(">Q", number))
            plain = finish if direction is to_agent and number == 0 else ping
            yield f"plain-{name}-{number}", plain
            yield f"packet-{name}-{number}", direction.seal(number, plain)

    yield "presence", header(1, 4) + public(agent) + agent_instance + struct.pack(">Q", 7) + bytes([1]) + bytes(7)


def check(text):
    here = pathlib.Path(__file__).resolve()
    if text != here.with_suffix(".txt").read_text():
        sys.exit("link.txt is not what link.py makes")
    specification = "".join((here.parents[3] / "docs" / "protocol.md").read_text().split())
    for line in text.splitlines():
        if "".join(line.split()) not in specification:
            sys.exit(f"docs/protocol.md does not hold the vector {line.split()[0]}")


def main():
    text = "".join(f"{name} {value.hex()}\n" for name, value in vectors())
    if sys.argv[1:] == ["--check"]:
        check(text)
    else:
        sys.stdout.write(text)


main()
