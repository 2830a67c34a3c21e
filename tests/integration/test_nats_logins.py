"""Each way to log in to NATS, against a real nats-server configured as docs/nats.md shows it, under its permissions."""
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import tempfile
import time

import pytest
from gi.repository import GLib
from nats_login import Authority, Certificates, NKey, RawUser, USER, creds, example
from stack import Stack, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
HOST = "127.0.0.1:{port}"


class LoginStack(Stack):
    """A stack whose broker and logins SET_UP makes: it gets the stack before anything runs."""

    def __init__(self, set_up):
        super().__init__()
        self.set_up = set_up

    def prepare(self):
        self.agent_nkey, self.operator_nkey = NKey.of_ssh(self.machine_key), NKey.of_ssh(self.operator_key)
        # The agent's network process is not root: what it reads has to be where it can.
        self.files = pathlib.Path(tempfile.mkdtemp(prefix="cbus-login-"))
        self.stack.callback(shutil.rmtree, self.files, ignore_errors=True)
        self.files.chmod(0o755)
        self.set_up(self)

    def put(self, name, text):
        (self.files / name).write_text(text)
        return self.files / name

    def example(self, heading, **values):
        return example(heading, AGENT=self.agent_nkey.public, OPERATOR=self.operator_nkey.public, **values)

    def start_agent(self, **kwargs):
        self.agent_url = self.agent_url and self.agent_url.format(port=self.nats.port)
        super().start_agent(**kwargs)

    def start_proxy(self):
        self.proxy_url = self.proxy_url and self.proxy_url.format(port=self.nats.port)
        super().start_proxy()

    def denied(self):
        return [line for line in self.nats.log().splitlines() if "Violation" in line]


def no_login(stack):
    stack.nats.config = stack.example("No login")


def password(stack):
    stack.nats.config = example("User and password", AGENT_PASSWORD="a-secret", OPERATOR_PASSWORD="o-secret",
                                AGENT=stack.agent_nkey.public, OPERATOR=stack.operator_nkey.public)
    stack.agent_url = f"nats://web1:a-secret@{HOST}"
    stack.proxy_url = f"nats://alice:o-secret@{HOST}"


def token(stack):
    stack.nats.config = example("Token", TOKEN="t0ken")
    stack.agent_url = stack.proxy_url = f"nats://t0ken@{HOST}"


def nkey(stack):
    stack.nats.config = stack.example("NKey")


def jwt(stack):
    stack.authority = Authority()
    stack.nats.config = stack.authority.server_config()
    stack.agent_options = ["--jwt", stack.put("web1.jwt", stack.authority.user("cbus-agent", stack.agent_nkey.public))]
    stack.proxy_options = ["--jwt", stack.put("alice.jwt", stack.authority.user("cbus-proxy", stack.operator_nkey.public))]


def credentials(stack):
    stack.authority = Authority()
    stack.nats.config = stack.authority.server_config()
    for who, identity, options in (("cbus-agent", stack.agent_nkey, stack.agent_options),
                                   ("cbus-proxy", stack.operator_nkey, stack.proxy_options)):
        user = NKey(USER)
        file = stack.put(f"{who}.creds", creds(stack.authority.plain_user(who, user.public, identity.public), user.seed))
        options += ["--creds", file]


def tls(stack):
    stack.certificates = Certificates(stack.directory)
    stack.nats.config = example("TLS", SERVER_CERT=stack.certificates.file("server.pem"),
                                SERVER_KEY=stack.certificates.file("server.key"))
    stack.agent_url = stack.proxy_url = f"tls://{HOST}"
    ca = stack.put("ca.pem", stack.certificates.file("ca.pem").read_text())
    stack.agent_options, stack.proxy_options = ["--ca", ca], ["--ca", ca]


def mutual_tls(stack):
    tls(stack)
    stack.nats.config = example("Mutual TLS", SERVER_CERT=stack.certificates.file("server.pem"),
                                SERVER_KEY=stack.certificates.file("server.key"), CA=stack.certificates.file("ca.pem"))
    cert, key = (stack.put(name, stack.certificates.file(name).read_text()) for name in ("client.pem", "client.key"))
    for options in (stack.agent_options, stack.proxy_options):
        options += ["--cert", cert, "--cert-key", key]


def context(stack, **values):
    """Contexts "agent" and "proxy", of user and password; VALUES replace theirs."""
    password(stack)
    stack.nats.port = free_port()
    contexts = stack.files / "nats" / "context"
    contexts.mkdir(parents=True)
    stack.environment["XDG_CONFIG_HOME"] = str(stack.files)
    for name, user, secret in (("agent", "web1", "a-secret"), ("proxy", "alice", "o-secret")):
        content = {"description": "", "url": f"nats://127.0.0.1:{stack.nats.port}", "user": user, "password": secret,
                   "token": "", "creds": "", "nkey": "", "jetstream_domain": "", "color_scheme": "", **values}
        (contexts / f"{name}.json").write_text(json.dumps(content))
    stack.agent_options, stack.proxy_options = ["--context", "agent"], ["--context", "proxy"]


def context_nkey(stack):
    """As before, but the logins are NKeys of their own, whose seeds only their users can read."""
    context(stack, user="", password="")
    config = stack.example("NKey")
    for name, identity in (("agent", stack.agent_nkey), ("proxy", stack.operator_nkey)):
        login = NKey(USER)
        config = config.replace(f"nkey: {identity.public}", f"nkey: {login.public}")
        seed = stack.put(f"{name}.nk", login.seed)
        seed.chmod(0o600)
        if name == "agent" and os.geteuid() == 0:
            os.chown(seed, network_user().pw_uid, -1)
        file = stack.files / "nats" / "context" / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "nkey": str(seed)}))
    stack.nats.config = config


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def network_user():
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("cbus")
    return pwd.getpwnam("nobody")


@pytest.mark.parametrize("set_up", [no_login, password, token, nkey, jwt, credentials, tls, mutual_tls, context, context_nkey],
                         ids=lambda set_up: set_up.__name__)
def test_a_whole_round_trip_with_each_login(set_up):
    with LoginStack(set_up) as stack:
        assert stack.call("Echo", "(v)", GLib.Variant("s", "hello")) == ("hello",)
        calls = [stack.start("Hang")]
        stack.call("Echo", "(v)", GLib.Variant("u", 1))
        # The broker's "no responders" is what tells so soon.
        stack.agent.kill()
        began = time.monotonic()
        stack.client.wait(lambda: all(calls), "the answer", 4)
        assert split_error(calls[0][0])[0] == DBUS_ERROR + "NoReply"
        assert time.monotonic() - began < 3
        stack.wait_state("offline", 3)
        stack.start_agent()
        stack.wait_online()
        assert stack.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)
        assert stack.denied() == []
        for program in (stack.agent, stack.proxy):
            assert "forbids" not in program.log()
            assert not re.search("a-secret|o-secret|t0ken|\\bSU[A-Z2-7]{50}", program.log())
        stack.stop()


def nkey_of_another(stack, other, position):
    """Another user beside the two, with the permissions of the agent (position 1) or the operator (2)."""
    nkey(stack)
    users = stack.nats.config.split("users: [", 1)[1].rsplit("]\n", 1)[0].split("{ nkey:")
    identity = (stack.agent_nkey, stack.operator_nkey)[position - 1].public
    stack.nats.config = stack.nats.config.replace(
        "users: [", "users: [\n{ nkey:" + users[position].replace(identity, other.public), 1)


def jwt_of_another(stack, other, position):
    """Another user of the signing key of the agents (position 1) or the operators (2)."""
    jwt(stack)
    stack.other_jwt = stack.authority.user(("cbus-agent", "cbus-proxy")[position - 1], other.public)


ANOTHER = pytest.mark.parametrize("beside", [nkey_of_another, jwt_of_another], ids=["nkey", "jwt"])


@ANOTHER
def test_with_an_agents_permissions_nobody_is_another_agent(beside):
    other = NKey(USER)
    with LoginStack(lambda stack: beside(stack, other, 1)) as stack, contextlib.closing(
            RawUser(stack.nats.port, other, getattr(stack, "other_jwt", None))) as user:
        assert user.errors == []
        own, victim = other.public, stack.nkey
        assert user.ask(f"SUB cbus.v1.{own}.in 1", f"SUB cbus.v1.{own}.in.* 2", "SUB cbus.v1.who 3",
                        f"PUB cbus.v1.{own}.here 1", "x", f"PUB cbus.v1.{own}.out.a.b 1", "x",
                        f"PUB cbus.v1.{own}.in.x 1", "x") == []
        for number, subject in enumerate((f"cbus.v1.{victim}.in", f"cbus.v1.{victim}.in.*", "cbus.v1.*.in", "cbus.v1.>", ">",
                                          f"cbus.v1.{victim}.out.>", f"cbus.v1.{own}.out.>", "cbus.v1.*.here",
                                          "_INBOX.>")):
            errors = user.ask(f"SUB {subject} {10 + number}")
            assert len(errors) == 1 and "Permissions Violation for Subscription" in errors[0], (subject, errors)
        proxy = stack.operator_nkey.public
        for subject in (f"cbus.v1.{victim}.here", f"cbus.v1.{victim}.out.{proxy}.x", f"cbus.v1.{victim}.gone.{proxy}.x",
                        f"cbus.v1.{victim}.in", f"cbus.v1.{victim}.in.x", "cbus.v1.who", f"cbus.v1.{own}.gone.{proxy}.x"):
            errors = user.ask(f"PUB {subject} 1", "x")
            assert len(errors) == 1 and "Permissions Violation for Publish" in errors[0], (subject, errors)
        assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


@ANOTHER
def test_an_operators_permissions_are_of_one_operator(beside):
    other = NKey(USER)
    with LoginStack(lambda stack: beside(stack, other, 2)) as stack, contextlib.closing(
            RawUser(stack.nats.port, other, getattr(stack, "other_jwt", None))) as user:
        assert user.errors == []
        mine, victim = stack.nkey, stack.operator_nkey.public
        assert user.ask(f"SUB cbus.v1.*.out.{other.public}.* 1", f"PUB cbus.v1.{mine}.in 1", "x") == []
        for number, subject in enumerate((f"cbus.v1.*.out.{victim}.*", f"cbus.v1.*.gone.{victim}.*", f"cbus.v1.{mine}.out.>",
                                          f"cbus.v1.{mine}.in")):
            assert "Permissions Violation" in user.ask(f"SUB {subject} {10 + number}")[0]
        for subject in (f"cbus.v1.{mine}.here", f"cbus.v1.{mine}.out.{victim}.x", f"cbus.v1.{mine}.gone.{victim}.x"):
            assert "Permissions Violation" in user.ask(f"PUB {subject} 1", "x")[0]


# ---- what goes wrong: said clearly, and tried again ----


def says(stack, program, *words, timeout=15):
    """PROGRAM says WORDS on one line, without the library's own noise."""
    def found():
        assert program.running, program.log()
        return [line for line in program.log().splitlines() if all(str(word) in line for word in words)]

    try:
        lines = wait_for(found, "", timeout)
    except AssertionError:
        raise AssertionError(f"{program.name} does not say {words} but {program.log()[-1500:]}") from None
    for line in program.log().splitlines():
        assert ".c:" not in line, line
    return lines


def restart(stack, program, url=None, options=None):
    """PROGRAM of STACK with other options; its log begins anew."""
    program.terminate()
    program.log_file.unlink()
    name = program.name
    setattr(stack, f"{name}_options", list(options or []))
    if url:
        setattr(stack, f"{name}_url", url)
    getattr(stack, f"start_{name}")()


def test_a_wrong_password_is_said_with_server_login_and_remedy_but_not_the_password():
    with LoginStack(password) as stack:
        for program, url in ((stack.agent, f"nats://web1:wr0ng@{HOST}"), (stack.proxy, f"nats://alice:wr0ng@{HOST}")):
            restart(stack, program, url)
            says(stack, program, f"127.0.0.1:{stack.nats.port}", "does not let us in", "in the URL", "name another login")
            assert "wr0ng" not in program.log()
        name, message = stack.error("Echo", "(v)", GLib.Variant("u", 1))
        assert name in ("ie.bmcgee.CBus1.Error.Offline",) and "web1" in message


def test_refused_logins_are_tried_again_after_growing_jittered_pauses():
    def attempts(stack, user):
        """When the server refused USER, in seconds."""
        stamps = re.findall(rf'(\d\d:\d\d:\d\d\.\d+) .*authentication error - User "{user}"', stack.nats.log())
        return [sum(float(part) * 60 ** (2 - i) for i, part in enumerate(stamp.split(":"))) for stamp in stamps]

    with LoginStack(password) as stack:
        restart(stack, stack.agent, f"nats://web1:wr0ng@{HOST}")
        restart(stack, stack.proxy, f"nats://alice:wr0ng@{HOST}")
        ratios = []
        for user in ("web1", "alice"):
            times = wait_for(lambda user=user: len(attempts(stack, user)) > 7 and attempts(stack, user), f"{user}'s attempts")
            pauses = [(after - before) % 86400 for before, after in zip(times, times[1:])][:7]
            for number, pause in enumerate(pauses):
                nominal = 0.020 * 2 ** number
                assert 0.74 * nominal < pause < 1.26 * nominal + 0.15, (number, pauses)
            # An attempt takes milliseconds, which are nothing beside these.
            ratios += [pause / (0.020 * 2 ** number) for number, pause in enumerate(pauses) if number > 2]
        assert max(ratios) - min(ratios) > 0.04, ratios


def test_an_nkey_that_the_server_does_not_know_is_named():
    with LoginStack(nkey) as stack:
        stack.nats.kill()
        stack.nats.config = stack.nats.config.replace(stack.agent_nkey.public, NKey(USER).public)
        stack.nats.start()
        says(stack, stack.agent, "does not let us in", f"the NKey {stack.nkey}")
        stack.nats.kill()
        nkey(stack)
        stack.nats.start()
        stack.wait_online()


def test_a_login_that_the_server_does_not_want_does_no_harm():
    """The identity's NKey to servers that know users, tokens, or no logins at all."""
    def users_and_nkeys(stack):
        password(stack)
        stack.nats.config = stack.nats.config.replace("users: [", f"users: [ {{ nkey: {NKey(USER).public} }}", 1)

    with LoginStack(users_and_nkeys) as stack:
        assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def test_a_jwt_is_read_again_at_each_attempt():
    with LoginStack(jwt) as stack:
        good = (stack.files / "web1.jwt").read_text()
        file = stack.put("web1.jwt", stack.authority.user("cbus-agent", stack.agent_nkey.public, exp=int(time.time()) - 10))
        stack.nats.kill()
        stack.nats.start()
        says(stack, stack.agent, "does not let us in", file, stack.nkey)
        file.unlink()
        restart(stack, stack.agent, options=["--jwt", file])
        says(stack, stack.agent, file, "No such file")
        stack.put("web1.jwt", good)
        stack.wait_online()
        assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def test_a_jwt_of_another_key_does_not_let_in():
    with LoginStack(jwt) as stack:
        file = stack.put("other.jwt", stack.authority.user("cbus-agent", NKey(USER).public))
        restart(stack, stack.agent, options=["--jwt", file])
        says(stack, stack.agent, "does not let us in", file)


def test_a_credentials_file_is_read_again_at_each_attempt():
    with LoginStack(credentials) as stack:
        file = stack.files / "cbus-proxy.creds"
        good, user = file.read_text(), NKey(USER)
        file.write_text(creds(Authority().plain_user("cbus-proxy", user.public, stack.operator_nkey.public), user.seed))
        restart(stack, stack.proxy, options=["--creds", file])
        says(stack, stack.proxy, "does not let us in", file)
        file.write_text("nothing of the kind\n")
        stack.wait_state("offline")
        file.write_text(good)
        stack.wait_online()


@pytest.mark.skipif(os.geteuid() != 0, reason="only an agent that root starts has an unprivileged network process")
def test_a_file_that_the_agents_network_process_may_not_read_is_named_with_the_user():
    with LoginStack(jwt) as stack:
        file = stack.files / "web1.jwt"
        file.chmod(0o600)
        restart(stack, stack.agent, options=["--jwt", file])
        says(stack, stack.agent, file, "Permission denied", f"user {network_user().pw_name} must be able to read it")
        os.chown(file, network_user().pw_uid, -1)
        stack.wait_online()


def test_a_server_of_another_authority_is_not_spoken_to():
    with LoginStack(tls) as stack:
        other = stack.files / "other"
        other.mkdir()
        Certificates(other)
        ca = stack.put("other.pem", (other / "ca.pem").read_text())
        restart(stack, stack.agent, options=["--ca", ca])
        says(stack, stack.agent, f"127.0.0.1:{stack.nats.port}", "SSL handshake error", "certificate")
        stack.put("other.pem", stack.certificates.file("ca.pem").read_text())
        stack.wait_online()


def test_without_the_certificate_that_the_server_wants():
    with LoginStack(mutual_tls) as stack:
        restart(stack, stack.agent, options=["--ca", stack.files / "ca.pem"])
        says(stack, stack.agent, f"127.0.0.1:{stack.nats.port}", "client certificate")


@pytest.mark.parametrize("change, words", [
    ({"nsc": "nsc://o/a/u"}, ["agent.json", '"nsc" can not be served']),
    ({"creds": "/x"}, ["agent.json", "one login of several"]),
    ({"user": 7}, ["agent.json", '"user" is no string']),
])
def test_a_context_that_can_not_be_served_is_refused_at_start(change, words):
    with LoginStack(context) as stack:
        file = stack.files / "nats" / "context" / "agent.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        stack.agent.terminate()
        stack.start_agent()
        assert stack.agent.process.wait(5) == 1
        assert all(word in stack.agent.log() for word in words), stack.agent.log()
        assert "a-secret" not in stack.agent.log()


def test_a_context_comes_alone():
    with LoginStack(context) as stack:
        stack.proxy.terminate()
        stack.proxy_options = ["--context", "proxy", "--creds", "/x"]
        stack.start_proxy()
        assert stack.proxy.process.wait(5) == 1
        assert "context and creds exclude each other" in stack.proxy.log()
        stack.proxy_options = ["--context", "no-such"]
        stack.start_proxy()
        assert stack.proxy.process.wait(5) == 1
        assert "no-such.json: No such file" in stack.proxy.log()
