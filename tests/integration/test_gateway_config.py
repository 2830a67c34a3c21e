"""When there is a gateway and when there is none, as the configuration has it; broadcasts to several machines."""
import subprocess

import pytest

from gateway import ONE, POLICY, USER, Gateway
from nats_login import example
from plain import Plain
from stack import BUILD, Program, wait_for

ERROR = "org.freedesktop.DBus.Error."


class Off(Gateway):
    """It waits for the agent alone: there may be no gateway."""
    settings = None

    def wait_online(self, service=ONE, timeout=15.0):
        self.plain = Plain(self.nats.url)
        self.stack.callback(self.plain.close)
        wait_for(lambda: "NATS is up" in self.agent.log(), f"the agent: {self.agent.log()[-2000:]}")

    def nobody_listens(self):
        for subject in (self.subject("Child"), "$SRV.PING", "$SRV.INFO.cbus", self.subject("Child", to="dbus.broadcast")):
            with pytest.raises(ConnectionError, match="no responders"):
                self.plain.request(subject)


@pytest.fixture
def off():
    with Off() as running:
        yield running
        running.stop()


def check(stack):
    result = subprocess.run([str(o) for o in stack.check_options("--check")], capture_output=True, text=True, timeout=20,
                            check=False)
    return result.returncode, result.stdout + result.stderr


def test_without_the_group_there_is_none(off):
    off.nobody_listens()
    assert "gateway" not in off.agent.log()
    assert check(off)[0] == 0


@pytest.mark.parametrize("settings, fault", [
    (f"user={USER}\n", "policy= is missing"),
    ("policy=plain\n", "user= is missing"),
    ("", "user= is missing"),
    (f"user=\npolicy=plain\n", "user= is missing"),
    (f"user={USER}\npolicy=plain\n policy =full\n", "'policy' stands twice"),
    (f"user={USER}\npolicy=plain\n[gateway]\npolicy=full\n", "'[gateway]' stands twice"),
    (f"user={USER}\npolicy=other\n", "policy=other: there is no such policy"),
    (f"user={USER}\npolicy=plain\nbroadcast=perhaps\n", "broadcast=perhaps: say yes or no"),
    (f"user={USER}\npolicy=plain\ntimeout=0\n", "timeout=0: say how many seconds"),
    (f"user={USER}\npolicy=plain\nbroadcasts=yes\n", "'broadcasts' is no key of it"),
    ("user=nobody-of-that-name\npolicy=plain\n", 'there is no user "nobody-of-that-name"'),
])
def test_a_faulty_group_is_none_and_said(off, settings, fault):
    # In a running agent, which has to tell that it changed; and it is the same at its start.
    off.configure(settings)
    wait_for(lambda: f"{off.config}:4: [gateway]: {fault}" in off.agent.log(), f"the fault: {off.agent.log()}")
    status, text = check(off)
    assert status == 1 and f"{off.config}:4: [gateway]: {fault}" in text and "there is no gateway" in text, text
    off.nobody_listens()
    assert "the gateway is on" not in off.agent.log()


def listens(stack):
    try:
        stack.plain.request("$SRV.PING.cbus")
        return True
    except ConnectionError:
        return False


class Half(Off):
    settings = f"user={USER}\n"


def test_an_agent_starts_without_its_faulty_gateway():
    with Half() as half:
        assert f"{half.config}:4: [gateway]: policy= is missing: say what everybody who may publish to the broker may do: " \
            "there is no gateway" in half.agent.log()
        half.nobody_listens()
        half.stop()


def test_a_file_that_others_may_write_has_no_gateway(off):
    off.configure(Gateway.settings)
    wait_for(off.is_served, f"the gateway: {off.agent.log()}")
    off.config.chmod(0o666)
    wait_for(lambda: not listens(off), f"it to end: {off.agent.log()}")
    assert "(mode 0666): chmod go-w" in off.agent.log()
    assert "it has no policies and no gateway" in off.agent.log()
    assert "nobody is authorized" not in off.agent.log()
    off.config.chmod(0o644)
    wait_for(off.is_served, f"the gateway: {off.agent.log()}")


def test_it_comes_and_goes_with_the_configuration(off):
    off.configure(Gateway.settings)
    wait_for(off.is_served, f"the gateway: {off.agent.log()}")
    assert f"may use this machine's bus as user {USER} under policy plain" in off.agent.log()
    status, text = check(off)
    assert (status, f"a gateway, as user {USER} under policy plain" in text) == (0, True), text
    # The policy counts from the next request on, and nothing else ends.
    opened = off.agent.log().count("gateway opened a channel")
    off.configure(Gateway.settings, POLICY + "deny=com.example.*=com.example.Test.Child\n")
    wait_for(lambda: off.call("Child").code == 403, "the denial")
    assert off.agent.log().count("gateway opened a channel") == opened
    off.configure(Gateway.settings + "broadcast=yes\n")
    wait_for(lambda: off.call("Child").code == 200, "the other policy")
    off.configure(None)
    wait_for(lambda: not listens(off), "it to end")
    off.nobody_listens()


class Two(Gateway):
    """Two machines, on one bus, with broadcasts; the second has another policy."""
    settings = Gateway.settings + "broadcast=yes\n"

    def start_agent(self, bus=None):
        super().start_agent(bus)
        self.second_key = self._key("second")
        self.second_nkey = self.nkey_of(self.second_key)
        config = self.directory / "second.conf"
        config.write_text(f"[gateway]\nuser={USER}\npolicy=less\nbroadcast=on\n[policy less]\ntalk=com.example.Typed\n")
        config.chmod(0o644)
        self.second = Program("second", self.directory)
        self.stack.callback(self.second.kill)
        self.second.spawn([BUILD / "agent/cbus-agent", "--config", config, "--nats", self.nats.url, "--key", self.second_key,
                           "--authorized-keys", self.authorized, "--bus", self.remote.address, "--name", "second"])


def test_a_broadcast_goes_to_every_machine():
    with Two() as two:
        both = {two.nkey, two.second_nkey}

        def ask(member, kind="method", service="com.example.Typed", path="/com/example/Typed"):
            subject = two.subject(member, service, path, kind, to="dbus.broadcast")
            return {m.headers["NKey"]: m for m in two.plain.many(subject, count=2, timeout=5)}

        wait_for(lambda: {m.code for m in ask("With_Line", "prop").values()} == {200} and len(ask("With_Line", "prop")) == 2,
                 "both")
        answers = ask("With_Line", "prop")
        assert set(answers) == both and {m.json for m in answers.values()} == {"18446744073709551615"}
        answers = ask("Child", service=ONE, path="/com/example/Test")
        assert (answers[two.nkey].code, answers[two.second_nkey].code) == (200, 404)
        assert {m.json["id"] for m in two.plain.many("$SRV.PING", count=2)} == both
        info = two.plain.request(f"$SRV.INFO.cbus.{two.second_nkey}").json
        assert [e["subject"] for e in info["endpoints"]] == [f"dbus.agent.{two.second_nkey}.>", "dbus.broadcast.>"]
        assert two.second.terminate() == 0, two.second.log()[-2000:]
        two.stop()


class Permitted(Gateway):
    """A broker with the permissions of docs/nats.md."""

    def prepare(self):
        super().prepare()
        self.nats.config = example("An agent with a gateway", AGENT=self.nkey, DASHBOARD_PASSWORD="secret")

    def wait_online(self, service=ONE, timeout=15.0):
        self.plain = Plain(self.nats.url.replace("//", "//dashboard:secret@"), "_INBOX.dashboard")
        self.stack.callback(self.plain.close)
        wait_for(self.is_served, f"the gateway: {self.agent.log()[-2000:]}")


def test_the_permissions_in_the_document_are_enough():
    with Permitted() as permitted:
        following = permitted.plain.subscribe("dbus.signals.>")
        assert permitted.call("Child").json == ["/com/example/Test/child"]
        assert permitted.get("Level").code == 200
        assert permitted.plain.request("$SRV.PING").json["id"] == permitted.nkey
        assert permitted.plain.request(f"$SRV.STATS.cbus.{permitted.nkey}").json["name"] == "cbus"
        permitted.call("Emit", ["/x"])
        seen = following()
        while seen.headers["Member"] != "Emitted":
            seen = following()
        permitted.stop()
        assert "Violation" not in permitted.nats.log(), permitted.nats.log()


def test_broadcasts_are_off_unless_asked_for():
    with Gateway() as gateway:
        with pytest.raises(ConnectionError, match="no responders"):
            gateway.plain.request(gateway.subject("Child", to="dbus.broadcast"))
        gateway.stop()
