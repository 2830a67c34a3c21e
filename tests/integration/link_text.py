"""What docs/protocol.md names and derives, for those who make links from the text: by_the_text.py, which keeps to it, and
handmade.py, which need not. With the formulas of tests/unit/vectors/link.py it shares no code with CBus.
"""
import hashlib
import importlib.util

from stack import TOP

_spec = importlib.util.spec_from_file_location("vectors", TOP / "tests/unit/vectors/link.py")
vectors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vectors)

HELLO, WELCOME, PACKET, PRESENCE = 1, 2, 3, 4
FINISH, OPEN, OPENED, REFUSED, CLOSE, CREDIT, PING, PONG, TREE, SERVERINFO, MESSAGE = range(1, 12)


def string(value):
    return vectors.string(value if isinstance(value, bytes) else value.encode())


def link_keys(transcript, dh):
    """The id of a link and the first chain keys of its two ways, the one to the agent first."""
    prk = hashlib.blake2b(b"cbus1 link" + transcript, digest_size=32, key=dh).digest()
    return vectors.kdf(16, 1, b"cbuslink", prk), [vectors.kdf(32, number, b"cbuslink", prk) for number in (2, 3)]
