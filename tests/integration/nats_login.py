"""What a NATS operator hands out: NKeys, JWTs, credentials, certificates; and a raw client that logs in with one."""
import base64
import datetime
import ipaddress
import json
import pathlib
import socket
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "nats.md"
SEED, USER, ACCOUNT, OPERATOR = 18 << 3, 20 << 3, 0, 14 << 3


def example(heading, **values):
    """The first indented block below HEADING of docs/nats.md, with the words that are keys of VALUES replaced."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = section.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("    "))
    last = next((i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith("    ")), len(lines))
    text = "\n".join(lines[first:last])
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(name, str(values[name]))
    return text


def template(who, key="{{subject()}}"):
    """The permissions that docs/nats.md's table gives to WHO."""
    row = next(line for line in DOCUMENT.read_text().split("\n") if line.startswith(f"| {who} |"))
    cells = [[subject.strip(" `").replace("AGENT", key).replace("OPERATOR", key) for subject in cell.split(",")]
             for cell in row.strip("|").split("|")[1:]]
    return {"pub": {"allow": cells[0]}, "sub": {"allow": cells[1]}}


def base32(prefix, data):
    raw = bytes(prefix) + data
    crc = 0
    for byte in raw:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xffff
    return base64.b32encode(raw + crc.to_bytes(2, "little")).decode().rstrip("=")


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class NKey:
    def __init__(self, kind, private=None):
        self.kind = kind
        self.private = private or Ed25519PrivateKey.generate()

    @classmethod
    def of_ssh(cls, file):
        return cls(USER, serialization.load_ssh_private_key(pathlib.Path(file).read_bytes(), None))

    @property
    def public(self):
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base32([self.kind], raw)

    @property
    def seed(self):
        raw = self.private.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw,
                                         serialization.NoEncryption())
        return base32([SEED | self.kind >> 5, (self.kind & 31) << 3], raw)

    def sign(self, data):
        return base64url(self.private.sign(data))

    def jwt(self, subject, name, nats, **claims):
        """A JWT about SUBJECT, issued by this key."""
        claims = {"jti": name, "iat": int(time.time()), "iss": self.public, "name": name, "sub": subject,
                  "nats": {"version": 2, **nats}, **claims}
        head, body = (base64url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
        return f"{head}.{body}.{self.sign(f'{head}.{body}'.encode())}"


class Authority:
    """An operator with one account, whose two signing keys make agents and proxies as docs/nats.md has it."""

    def __init__(self):
        self.operator, self.account = NKey(OPERATOR), NKey(ACCOUNT)
        self.signing = {who: NKey(ACCOUNT) for who in ("cbus-agent", "cbus-proxy")}

    def server_config(self):
        unlimited = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
                     "wildcards": True}
        scopes = [{"kind": "user_scope", "key": key.public, "role": who,
                   "template": {**template(who), "subs": -1, "data": -1, "payload": -1}} for who, key in self.signing.items()]
        account = self.operator.jwt(self.account.public, "CBUS",
                                    {"type": "account", "limits": unlimited, "signing_keys": scopes,
                                     "default_permissions": {"pub": {}, "sub": {}}})
        operator = self.operator.jwt(self.operator.public, "operator", {"type": "operator"})
        return example("JWT for the machine's own key, server", OPERATOR_JWT=operator, ACCOUNT_JWT=account,
                       ACCOUNT=self.account.public)

    def user(self, who, subject, **claims):
        """A JWT of the role WHO for the key SUBJECT."""
        return self.signing[who].jwt(subject, "user", {"type": "user", "issuer_account": self.account.public}, **claims)

    def plain_user(self, who, subject, identity):
        """A JWT with permissions of its own, for a key that is not the identity's."""
        return self.account.jwt(subject, "user", {"type": "user", **template(who, identity), "subs": -1, "data": -1,
                                                  "payload": -1})


def creds(jwt, seed):
    return (f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n")


class Certificates:
    """An authority's, a server's and a client's certificate in a directory."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self._make("ca", "CBus test CA", self.ca_key, None)
        for name in ("server", "client"):
            self._make(name, name, ec.generate_private_key(ec.SECP256R1()), self.ca)

    def file(self, name):
        return self.directory / name

    def _make(self, name, common_name, key, issuer):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
                   .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False))
        certificate = builder.sign(self.ca_key, hashes.SHA256())
        self.file(f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.file(f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM,
                                                               serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate


class RawUser:
    """A NATS user with an NKey, and a JWT for it if there is one, who tries what it likes; the server's verdicts are the -ERR
    lines that come back."""

    def __init__(self, port, nkey, jwt=None):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.stream = self.socket.makefile("rb")
        info = json.loads(self.stream.readline().split(b" ", 1)[1])
        login = {"verbose": False, "pedantic": False, "sig": nkey.sign(info["nonce"].encode()),
                 **({"jwt": jwt} if jwt else {"nkey": nkey.public})}
        self.errors = self.ask(f"CONNECT {json.dumps(login)}")

    def ask(self, *lines):
        """The errors that LINES bring."""
        self.socket.sendall("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        errors = []
        while (line := self.stream.readline().decode().strip()) != "PONG":
            assert line, errors
            if line.startswith("-ERR"):
                errors.append(line)
        return errors

    def close(self):
        self.stream.close()
        self.socket.close()
