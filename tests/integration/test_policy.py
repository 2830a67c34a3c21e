"""Policies on real buses: what a key's policy="NAME" lets through a portal and the mirror, and what it hides."""
import contextlib
import struct
import subprocess

import handmade
import pytest
from gi.repository import GLib
from link_text import TREE, string, vectors
from stack import BUILD, TEST, Client, Program, Stack, is_listening, spawn_service, wait_for

DBUS = "org.freedesktop.DBus"
PATH = "/com/example/Test"
PROPERTIES = "org.freedesktop.DBus.Properties"
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
UNKNOWN = "org.freedesktop.DBus.Error.ServiceUnknown"
NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
ONE = "com.example.One"
OTHER = "com.example.Other"

POLICIES = """[policy operator]
see=com.example.Seen
call=com.example.One=com.example.Test.Echo@/com/example/Test;com.example.One=com.example.Test.Own
call=com.example.One=com.example.Test.Release;com.example.One=com.example.Test.Emit
read=com.example.One=com.example.Test.*
own=com.example.Mine
"""


class Judged(Stack):
    """A stack whose operator has a policy, and a second service that the policy does not know."""

    policies = POLICIES
    policy = "operator"

    def start_agent(self):
        self.config = self.directory / "agent.conf"
        self.configure(self.policies)
        self.authorize(self.policy)
        self.other = Program("other", self.directory)
        self.stack.callback(self.other.kill)
        spawn_service(self.other, self.remote, OTHER)
        self.agent.spawn([BUILD / "agent/cbus-agent", *self.judged_options()])

    def judged_options(self):
        return ["--config", self.config, "--nats", self.nats.url, "--key", self.machine_key, "--authorized-keys",
                self.authorized, "--bus", self.remote.address, "--name", "remote-host"]

    def configure(self, policies):
        fresh = self.config.with_suffix(".new")
        fresh.write_text("[agent]\nlog-level=2\n" + policies)
        fresh.chmod(0o644)
        fresh.rename(self.config)

    def authorize(self, policy):
        key = self.operator_key.with_suffix(".pub").read_text()
        self.authorized.write_text(f'policy="{policy}" {key}' if policy else key)
        self.authorized.chmod(0o600)

    def portal(self):
        socket = self.directory / "runtime" / self.nkey / "bus"
        wait_for(lambda: is_listening(socket), "the portal")
        client = Client(f"unix:path={socket}")
        self.stack.callback(client.close)
        return client


@pytest.fixture(scope="module")
def judged():
    with Judged() as running:
        yield running
        running.check()


@pytest.fixture(scope="module")
def portal(judged):
    return judged.portal()


def driver(client, member, signature=None, *args):
    return client.call(DBUS, "/org/freedesktop/DBus", DBUS, member, signature, *args)


def driver_error(client, member, signature=None, *args):
    return client.error(DBUS, "/org/freedesktop/DBus", DBUS, member, signature, *args)


def unique_name(stack, name):
    client = Client(stack.remote.address)
    try:
        return driver(client, "GetNameOwner", "(s)", name)[0]
    finally:
        client.close()


def test_calls_pass_by_interface_method_and_path_under_any_name_of_the_owner(judged, portal):
    for name in (ONE, "com.example.Two", unique_name(judged, ONE)):
        assert portal.call(name, PATH, TEST, "Echo", "(v)", GLib.Variant("u", 5)) == (5,)
        error, message = portal.error(name, PATH, TEST, "Sender")
        assert error == DENIED
        assert "policy operator" in message and f"call={name}={TEST}.Sender@{PATH}" in message
        assert portal.error(name, PATH + "/child", TEST, "Echo", "(v)", GLib.Variant("u", 5))[0] == DENIED


def test_properties_are_judged_by_the_interface_in_the_argument(portal):
    assert portal.call(ONE, PATH, PROPERTIES, "Get", "(ss)", TEST, "Level")[0] == 1
    assert portal.call(ONE, PATH, PROPERTIES, "GetAll", "(s)", TEST) == ({"Level": 1},)
    assert portal.error(ONE, PATH, PROPERTIES, "GetAll", "(s)", "")[0] == DENIED
    assert portal.error(ONE, PATH, PROPERTIES, "Get", "(ss)", "com.example.Else", "Level")[0] == DENIED
    error, message = portal.error(ONE, PATH, PROPERTIES, "Set", "(ssv)", TEST, "Level", GLib.Variant("u", 9))
    assert error == DENIED and f"call={ONE}={TEST}.Level@{PATH}" in message
    assert portal.call(ONE, PATH, PROPERTIES, "Get", "(ss)", TEST, "Level")[0] == 1


def test_a_denial_is_recorded_without_arguments(judged, portal):
    before, path = len(judged.agent.log()), PATH + "/child/deeper"  # equal events would be counted with earlier ones
    error, message = portal.error(ONE, path, PROPERTIES, "Get", "(ss)", "com.example.Argument", "Word")
    assert error == DENIED and f"read={ONE}=com.example.Argument.Word@{path}" in message  # who asks is told what would do
    error, message = driver_error(portal, "RequestName", "(su)", "com.example.Argument", 0)
    assert error == DENIED and "own=com.example.Argument" in message
    recorded = [line for line in judged.agent.log()[before:].splitlines() if "was denied to call" in line]
    assert len(recorded) == 2 and all("reason=" in line and "Argument" not in line and "Word" not in line for line in recorded)


def test_what_may_not_be_seen_does_not_exist(judged, portal):
    unique = unique_name(judged, OTHER)
    names = driver(portal, "ListNames")[0]
    assert ONE in names and OTHER not in names and unique not in names
    assert unique_name(judged, ONE) in names and portal.connection.get_unique_name() in names
    assert "com.example.Lazy" not in driver(portal, "ListActivatableNames")[0]
    assert driver(portal, "NameHasOwner", "(s)", OTHER) == (False,)
    assert driver_error(portal, "GetNameOwner", "(s)", OTHER)[0] == NO_OWNER
    assert driver_error(portal, "GetConnectionUnixUser", "(s)", unique)[0] == NO_OWNER
    assert driver_error(portal, "StartServiceByName", "(su)", "com.example.Lazy", 0)[0] == UNKNOWN
    nobody = portal.error("com.example.Nobody", PATH, TEST, "Sender")
    assert portal.error(OTHER, PATH, TEST, "Sender") == (UNKNOWN, nobody[1].replace("com.example.Nobody", OTHER))
    assert portal.error(OTHER, PATH, "org.freedesktop.DBus.Introspectable", "Introspect")[0] == UNKNOWN
    assert "<interface" in portal.call(ONE, PATH, "org.freedesktop.DBus.Introspectable", "Introspect")[0]


def test_the_bus_itself_keeps_its_powers(portal):
    assert driver_error(portal, "AddMatch", "(s)", " eavesdrop ='true'")[0] == DENIED
    assert driver_error(portal, "AddMatch", "(s)", "eavesdrop='TRUE'")[0] == DENIED
    assert driver(portal, "AddMatch", "(s)", "arg0='eavesdrop=true'") == ()
    assert driver_error(portal, "UpdateActivationEnvironment", "(a{ss})", {"A": "b"})[0] == DENIED
    assert portal.error(DBUS, "/org/freedesktop/DBus", DBUS + ".Monitoring", "BecomeMonitor", "(asu)", [], 0)[0] == DENIED
    assert portal.error(DBUS, "/org/freedesktop/DBus", DBUS + ".Debug.Stats", "GetStats")[0] == DENIED
    assert driver_error(portal, "RequestName", "(su)", "com.example.Stolen", 0)[0] == DENIED
    assert driver(portal, "RequestName", "(su)", "com.example.Mine", 0) == (1,)
    assert driver(portal, "ReleaseName", "(s)", "com.example.Mine") == (1,)


def test_a_monitor_is_refused_and_told_why(judged, portal):
    address = judged.property("BusAddress")
    done = subprocess.run(["busctl", f"--address={address}", "monitor"], capture_output=True, text=True, timeout=20, check=False,
                          stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (1, "Call to org.freedesktop.DBus.Monitoring.BecomeMonitor failed: Access denied\n")
    monitor = Program("dbus-monitor", judged.directory)
    monitor.spawn(["dbus-monitor", "--address", address])
    try:
        # It falls back to listening as anybody may, and hears what the policy lets it hear.
        wait_for(lambda: "Falling back" in monitor.log(), f"the refusal: {monitor.log()}")
        assert "AccessDenied" in monitor.log() and "Machine remote-host: policy operator does not allow it" in monitor.log()
        judged.call("Echo", "(v)", GLib.Variant("s", "secret"))
        assert driver(portal, "RequestName", "(su)", "com.example.Mine", 0) == (1,)
        wait_for(lambda: "com.example.Mine" in monitor.log(), f"a signal that it may hear: {monitor.log()}")
        driver(portal, "ReleaseName", "(s)", "com.example.Mine")
        assert "secret" not in monitor.log()
    finally:
        monitor.kill()


def collect(client, interface, member):
    """Signals of INTERFACE.MEMBER from now on."""
    from gi.repository import Gio
    seen = []
    client.connection.signal_subscribe(None, interface, member, None, None, Gio.DBusSignalFlags.NONE,
                                       lambda _c, sender, path, _i, _m, values: seen.append((sender, path, values.unpack())))
    driver(client, "GetId")
    return seen


def test_changes_of_owners_are_told_for_visible_names_and_who_asked(judged):
    asking, silent = judged.portal(), judged.portal()
    asked = collect(asking, DBUS, "NameOwnerChanged")
    all_messages = []
    silent.connection.add_filter(lambda _c, message, incoming: all_messages.append(message.get_member()) or message)
    other = Client(judged.remote.address)
    other.call(OTHER, PATH, TEST, "Own", "(s)", "com.example.Invisible")
    asking.call(ONE, PATH, TEST, "Echo", "(v)", GLib.Variant("u", 1))
    asking.call("com.example.Two", PATH, TEST, "Own", "(s)", "com.example.Third")
    asking.wait(lambda: any(values[0] == "com.example.Third" for _s, _p, values in asked), "NameOwnerChanged")
    asking.call("com.example.Third", PATH, TEST, "Release", "(s)", "com.example.Third")
    asking.wait(lambda: any(values[0] == "com.example.Third" and values[2] == "" for _s, _p, values in asked), "its end")
    assert not any("Invisible" in values[0] for _s, _p, values in asked)
    silent.call(ONE, PATH, TEST, "Echo", "(v)", GLib.Variant("u", 1))
    assert "NameOwnerChanged" not in all_messages
    other.call(OTHER, PATH, TEST, "Release", "(s)", "com.example.Invisible")
    other.close()


def test_a_changed_policy_counts_from_the_next_message_on(judged):
    client = judged.portal()
    emitted = collect(client, TEST, "Emitted")
    changed = collect(client, PROPERTIES, "PropertiesChanged")
    client.call(ONE, PATH, TEST, "Emit", "(o)", "/a")
    client.call(ONE, PATH, TEST, "Echo", "(v)", GLib.Variant("u", 1))
    assert emitted == []
    judged.configure(POLICIES + f"broadcast={ONE}={TEST}.Emitted\ncall={ONE}={TEST}.Sender;{ONE}={TEST}.Level\n")

    def allowed():
        with contextlib.suppress(GLib.Error):
            return client.call(ONE, PATH, TEST, "Sender")

    wait_for(allowed, f"the new policy: {judged.agent.log()[-2000:]}")
    client.call(ONE, PATH, TEST, "Emit", "(o)", "/b")
    client.wait(lambda: emitted, "the signal")
    assert emitted[0][1:] == (PATH, ("/b",))
    client.call(ONE, PATH, PROPERTIES, "Set", "(ssv)", TEST, "Level", GLib.Variant("u", 1))
    client.wait(lambda: changed, "the change")
    judged.configure(POLICIES)
    wait_for(lambda: not allowed(), "the old policy")
    assert judged.state() == "online"
    assert "link ended" not in judged.agent.log()


def test_the_mirror_shows_what_may_be_seen(judged):
    assert ONE in judged.property("Services") and OTHER not in judged.property("Services")
    assert judged.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)
    assert judged.error("Sender")[0] == DENIED
    assert judged.error("Sender", service=OTHER)[0] in (UNKNOWN, "org.freedesktop.DBus.Error.UnknownObject")
    assert "com.example.Test" in judged.introspect(judged.path(ONE, PATH))


def test_who_only_says_that_it_monitors_hears_no_more(own_judged):
    """A method of that name on another interface of the bus, which a wildcard allows, makes nobody a monitor."""
    own_judged.configure(POLICIES + f"call={DBUS}={DBUS}.*;{DBUS}={DBUS}.Monitoring.*\n")
    client = own_judged.portal()

    def allowed():
        return driver_error(client, "BecomeMonitor", "(asu)", [], 0)[0] == DBUS + ".Error.UnknownMethod"

    wait_for(allowed, "the new policy")
    unknown = client.error(DBUS, "/org/freedesktop/DBus", DBUS + ".Monitoring", "AddMatch", "(s)", "eavesdrop='true'")[0]
    assert unknown == DBUS + ".Error.UnknownMethod"
    emitted = collect(client, TEST, "Emitted")
    client.call(ONE, PATH, TEST, "Emit", "(o)", "/a")
    client.call(ONE, PATH, TEST, "Echo", "(v)", GLib.Variant("u", 1))
    assert emitted == []


def test_a_tree_holds_no_object_that_could_not_be_introspected(own_judged):
    """TREE reads a whole service in one answer: what the policy denies by its path is not in it either."""
    own_judged.configure(f"[policy operator]\ntalk={ONE}\ndeny={ONE}=*@{PATH}/child/*\n")
    client = own_judged.portal()

    def denied():
        with contextlib.suppress(GLib.Error):
            client.call(ONE, PATH, TEST, "Sender")
            return client.error(ONE, PATH + "/child", "org.freedesktop.DBus.Introspectable", "Introspect")[0] == DENIED

    wait_for(denied, "the new policy")
    machine, key = (handmade.key_of(file) for file in (own_judged.machine_key, own_judged.operator_key))
    with contextlib.closing(handmade.Operator(own_judged.nats.port, vectors.public(machine), key)) as operator:
        operator.link()
        operator.open_channel()
        operator.send(operator.session.seal(vectors.record(TREE, struct.pack(">I", 7) + string(ONE), 1)))
        _record, channel, answer = operator.records(TREE)
    assert channel == 1 and answer[:5] == struct.pack(">IB", 7, 1)
    assert string(PATH) in answer
    assert string(PATH + "/child") not in answer and string(PATH + "/child/deeper") not in answer


def test_a_policy_that_is_gone_ends_the_link(own_judged):
    own_judged.configure("[policy operator]\nsea=com.example.One\n")
    wait_for(lambda: own_judged.state() == "unauthorized", f"it: {own_judged.agent.log()[-2000:]}")
    log = own_judged.agent.log()
    assert "agent.conf:4: 'sea' is no rule" in log
    assert 'line refused: there is no policy "operator"' in log
    own_judged.configure(POLICIES)
    own_judged.wait_online()


@pytest.fixture
def own_judged():
    with Judged() as running:
        yield running
        running.check()


def check(stack, *args):
    result = subprocess.run([str(BUILD / "agent/cbus-agent"), *[str(a) for a in stack.judged_options()], *args],
                            capture_output=True, text=True, timeout=20, check=False)
    return result.returncode, result.stdout + result.stderr


def test_check_names_lines_and_decisions(own_judged):
    key = subprocess.run([str(BUILD / "cli" / "cbus"), "nkey", "--public-key-file", f"{own_judged.operator_key}.pub"],
                         check=True, capture_output=True, text=True).stdout.strip()
    assert check(own_judged, "--check")[0] == 0
    status, text = check(own_judged, "--check-policy", key, ONE, PATH, TEST, "Echo")
    assert (status, "allowed" in text, "agent.conf:5: call=com.example.One=com.example.Test.Echo" in text) == (0, True, True), text
    status, text = check(own_judged, "--check-policy", key, ONE, PATH, TEST, "Sender")
    assert (status, "denied" in text) == (1, True), text
    status, text = check(own_judged, "--check-policy", key, ONE, PATH, PROPERTIES, f"Get({TEST},Level)")
    assert (status, "agent.conf:7: read=" in text) == (0, True), text
    status, text = check(own_judged, "--check-policy", key, OTHER, PATH, TEST, "Echo")
    assert status == 1 and "as if it did not exist" in text, text
    status, text = check(own_judged, "--check-policy", own_judged.nkey, ONE, PATH, TEST, "Echo")
    assert status == 1 and "not authorized" in text, text
    assert check(own_judged, "--check-policy", key, ONE)[0] == 2
    own_judged.configure("[policy operator]\nsee=com.example.One\ntalk=no name\n")
    status, text = check(own_judged, "--check")
    assert status == 1 and "agent.conf:5: talk=no name" in text and "authorized_keys:1" in text, text
