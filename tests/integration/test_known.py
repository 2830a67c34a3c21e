"""Pinned and unpinned machines: who may be listed, by which name, and how many."""
import contextlib
import pathlib
import subprocess
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from gi.repository import GLib

from nats_client import Nats, nkey, presence
from stack import BUILD, NAME, ROOT, Program, Stack, wait_for

UNPINNED_MAX = 256
NEW_PER_SECOND = 16


class Fleet(Stack):
    """More agents on the same bus, and a proxy with options."""

    def __init__(self, *options, **kwargs):
        super().__init__(**kwargs)
        self.options = options

    def start_proxy(self):
        self.proxy.spawn([BUILD / "proxy/cbus-proxy", "--nats", self.nats.url, "--key", self.operator_key, "--bus",
                          self.session.address, "--known-machines", self.known_machines, "--runtime-dir",
                          self.directory / "runtime", *self.options])

    def add(self, name, key):
        """An agent that claims NAME; returns its NKey."""
        file = self._key(key)
        agent = Program(key, self.directory)
        self.stack.callback(agent.kill)
        agent.spawn([BUILD / "agent/cbus-agent", "--nats", self.nats.url, "--key", file, "--authorized-keys",
                     self.authorized, "--bus", self.remote.address, "--name", name])
        agent.nkey = subprocess.run([BUILD / "cli/cbus", "nkey", "--public-key-file", f"{file}.pub"], check=True,
                                    capture_output=True, text=True).stdout.strip()
        wait_for(lambda: self.of(agent.nkey, "Online"), f"{key} to be online: {agent.log()[-1000:]}")
        return agent

    def of(self, machine, name):
        with contextlib.suppress(GLib.Error):
            return self.client.call(NAME, f"{ROOT}/{machine}", "org.freedesktop.DBus.Properties", "Get", "(ss)",
                                    "ie.bmcgee.CBus1.Machine", name)[0]
        return None

    def listed(self):
        """NKeys of the machines that have an object."""
        paths = self.client.call(NAME, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
        return {path.removeprefix(f"{ROOT}/") for path in paths if path != ROOT}

    def resident(self):
        """KiB of the proxy's anonymous memory."""
        status = pathlib.Path(f"/proc/{self.proxy.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0])


@pytest.fixture
def fleet():
    with Fleet() as running:
        yield running
        running.stop()


def test_claimed_name_is_shown_to_be_a_claim(fleet):
    agent = fleet.add("db1", "agent-a")
    assert fleet.of(agent.nkey, "Name") == "db1"
    assert fleet.of(agent.nkey, "NamePinned") is False
    assert (fleet.property("Name"), fleet.property("NamePinned")) == ("web1", True)


def test_two_machines_that_claim_one_name(fleet):
    first = fleet.add("db1", "agent-a")
    second = fleet.add("DB1", "agent-b")
    assert fleet.of(first.nkey, "Name") == "db1"
    assert fleet.of(second.nkey, "Name") == ""
    assert first.nkey in fleet.of(second.nkey, "LastError")
    # It is reachable all the same, by its key.
    owner = fleet.client.call(NAME, f"{ROOT}/{second.nkey}/com_2eexample_2eOne/com/example/Test", "com.example.Test",
                              "Echo", "(v)", GLib.Variant("u", 7))
    assert owner == (7,)
    # Who is pinned has the name, whoever claimed it before.
    subprocess.run([BUILD / "cli/cbus", "trust", "--known-machines", fleet.known_machines, second.nkey, "db1"], check=True)
    wait_for(lambda: fleet.of(second.nkey, "NamePinned"), "the pin to count")
    assert fleet.of(second.nkey, "Name") == "db1"
    assert fleet.of(first.nkey, "Name") == ""
    assert "db1" in fleet.of(first.nkey, "LastError")


def test_claimed_name_is_free_again_when_its_machine_leaves(fleet):
    first = fleet.add("db1", "agent-a")
    second = fleet.add("db1", "agent-b")
    assert fleet.of(second.nkey, "Name") == ""
    first.terminate()
    wait_for(lambda: fleet.of(second.nkey, "Name") == "db1", "the name to pass on")
    assert fleet.of(second.nkey, "LastError") == ""
    assert first.nkey not in fleet.listed()


@pytest.mark.parametrize("claim", ["web1", "WEB1", "we.b1", "web-1"])
def test_claimed_name_can_not_imitate_a_pinned_one(fleet, claim):
    agent = fleet.add(claim, "agent-a")
    assert fleet.of(agent.nkey, "Name") == ""
    assert '"web1"' in fleet.of(agent.nkey, "LastError") and "pinned" in fleet.of(agent.nkey, "LastError")
    assert fleet.property("Name") == "web1"


def test_known_only_lists_nobody_else():
    with Fleet("--known-only") as fleet:
        agent = fleet._key("agent-a")
        assert agent
        broker = Nats(fleet.nats.port)
        for public in keys(100):
            broker.publish(*presence(public))
        broker.flush()
        broker.close()
        # Whatever was published before is judged by the time a call that began later is answered.
        assert fleet.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
        assert fleet.listed() == {fleet.nkey}
        fleet.stop()


def keys(count):
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return [ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*raw) for _ in range(count)]


def test_flood_of_announced_keys_is_bounded(fleet):
    strangers = keys(10000)
    names = {nkey(public) for public in strangers}
    packets = [presence(public) for public in strangers]
    broker = Nats(fleet.nats.port)
    before = fleet.resident()
    slowest = 0.0
    began = time.monotonic()
    for start in range(0, len(packets), 500):
        for packet in packets[start:start + 500]:
            broker.publish(*packet)
        broker.flush()
        asked = time.monotonic()
        assert fleet.call("Echo", "(v)", GLib.Variant("u", start)) == (start,)
        slowest = max(slowest, time.monotonic() - asked)
        listed = fleet.listed()
        seconds = int(time.monotonic() - began) + 2  # the flood may begin and end within a second
        assert listed - {fleet.nkey} <= names
        assert len(listed) <= 1 + NEW_PER_SECOND * seconds
    # On for as long as it takes to fill the list, and longer.
    end = time.monotonic() + UNPINNED_MAX / NEW_PER_SECOND + 4
    most = 0
    while time.monotonic() < end:
        for packet in packets:
            broker.publish(*packet)
        broker.flush()
        asked = time.monotonic()
        assert fleet.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
        slowest = max(slowest, time.monotonic() - asked)
        most = max(most, len(fleet.listed()))
        seconds = int(time.monotonic() - began) + 2
        assert most <= 1 + min(UNPINNED_MAX, NEW_PER_SECOND * seconds)
    assert most == 1 + UNPINNED_MAX
    assert fleet.property("Online") is True
    assert slowest < 3, "the pinned machine was kept waiting"
    grown = fleet.resident() - before
    sanitized = b"__asan_init" in (BUILD / "proxy/cbus-proxy").read_bytes()  # keeps what was freed
    assert sanitized or grown < 16 * 1024, f"{grown} KiB for {UNPINNED_MAX} listed strangers"
    print(f"slowest call {slowest * 1000:.0f} ms, grown {grown} KiB")
    broker.close()
    # They vanish as they came.
    wait_for(lambda: fleet.listed() == {fleet.nkey}, "the strangers to be forgotten", 30)
    assert {path.name for path in (fleet.directory / "runtime").iterdir() if path.name.startswith("U")} == {fleet.nkey}
