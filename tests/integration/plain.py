"""NATS's own client for Go (plain_client/main.go), as Debian packages it: what a stranger sees of the gateway."""
import contextlib
import fcntl
import json
import os
import queue
import subprocess
import threading

from stack import BUILD, TOP

GO = "/usr/bin/go"
SOURCE = TOP / "tests/integration/plain_client/main.go"


def build():
    """The program, built once for each build tree."""
    program = BUILD / "tests" / "plain-client"
    program.parent.mkdir(parents=True, exist_ok=True)
    with open(program.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
            # Against the packages of Debian, with nothing fetched.
            environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
                           "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
                           "GOCACHE": str(BUILD / "tests" / "go-cache")}
            subprocess.run([GO, "build", "-o", str(program), str(SOURCE)], check=True, env=environment, timeout=300)
    return program


class Message:
    def __init__(self, seen):
        self.subject = seen["subject"]
        self.text = seen["data"]
        self.headers = {name: values[0] for name, values in (seen["headers"] or {}).items()}

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        return int(self.headers.get("Nats-Service-Error-Code", "200"))

    @property
    def error(self):
        return self.headers.get("Nats-Service-Error", "")

    def __repr__(self):
        return f"Message({self.subject!r}, {self.text[:500]!r}, {self.headers!r})"


class Plain:
    """One connection. Requests may be made at the same time."""

    def __init__(self, url, inboxes="_INBOX"):
        self.process = subprocess.Popen([str(build()), url, inboxes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8")
        self.next_id = 1
        self.answers = {}
        first = json.loads(self.process.stdout.readline())
        assert "error" not in first, first
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(ValueError):
            for text in self.process.stdout:
                line = json.loads(text)
                self.answers[line.get("id") or -line["subscription"]].put(line)

    def begin(self, op, subject, data="", headers=None, timeout=15, count=1, reply=""):
        """Sends a command; returns what end() takes."""
        number, self.next_id = self.next_id, self.next_id + 1
        self.answers[number] = queue.SimpleQueue()
        self.answers[-number] = queue.SimpleQueue()
        self.process.stdin.write(json.dumps({"id": number, "op": op, "subject": subject, "data": data,
                                             "headers": headers or {}, "timeout": timeout, "count": count, "reply": reply}) + "\n")
        self.process.stdin.flush()
        return number

    def end(self, number):
        line = self.answers[number].get(timeout=40)
        if "error" in line:
            raise ConnectionError(line["error"])
        return [Message(seen) for seen in line["messages"] or []]

    def request(self, subject, arguments="", timeout=15, **headers):
        """ARGUMENTS: JSON as text, or what becomes it."""
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))
        return self.end(self.begin("request", subject, text, headers, timeout))[0]

    def many(self, subject, data="", count=99, timeout=2.0):
        return self.end(self.begin("many", subject, data, None, timeout, count))

    def publish(self, subject, data="", reply=""):
        self.end(self.begin("publish", subject, data, reply=reply))

    def subscribe(self, subject):
        """A function that waits for the next message."""
        number = self.begin("subscribe", subject)
        self.end(number)
        return lambda timeout=15: Message(self.answers[-number].get(timeout=timeout)["messages"][0])

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def spell(name):
    """A bus name as a token of a subject."""
    return name.replace(".", "_").replace(":", "_")
