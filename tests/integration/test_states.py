"""What the roster says of a machine while it comes, goes, refuses and returns; in what order, and for which reason."""
import pathlib
import resource
import time

import pytest
from gi.repository import GLib
from stack import BUILD, NAME, ROOT, Program, Stack, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
OFFLINE = "ie.bmcgee.CBus1.Error.Offline"
MACHINE = "ie.bmcgee.CBus1.Machine"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER = "org.freedesktop.DBus.ObjectManager"


def changes(client, path):
    """The PropertiesChanged of PATH that CLIENT saw, in order."""
    return [values[1] for seen, _interface, member, values in client.signals if seen == path and member == "PropertiesChanged"]


def managed(stack):
    return stack.client.call(NAME, ROOT, MANAGER, "GetManagedObjects")[0]


def raw_call(stack, member, parameters):
    return stack.client.connection.call_sync(NAME, stack.path(below="/com/example/Test"), "com.example.Test", member, parameters,
                                             None, 0, 60000, None)


def blob(size):
    return GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(size)), True)


def test_a_fresh_link_has_its_round_trip_measured(own):
    wait_for(lambda: own.property("RoundTrip") > 0, "RoundTrip", 0.5)
    assert own.property("RoundTrip") < 5_000_000
    assert abs(own.property("LastSeen") / 1e6 - time.time()) < 60


def test_properties_of_an_online_machine(own):
    values = managed(own)[own.machine][MACHINE]
    assert set(values) == {"NKey", "Name", "NamePinned", "Online", "State", "LastError", "LastSeen", "RoundTrip", "MachineId",
                           "BootId", "Version", "BusAddress", "Services", "SignalsLost", "Tags"}
    assert (values["NKey"], values["Name"], values["NamePinned"]) == (own.nkey, "web1", True)
    assert (values["Online"], values["State"], values["LastError"]) == (True, "online", "")
    assert values["MachineId"] == pathlib.Path("/etc/machine-id").read_text().strip()
    assert values["Version"] != "" and values["SignalsLost"] == 0


def test_an_agent_that_stops_in_order_is_the_reason_that_is_told(own):
    client = own.new_client()
    client.watch(PROPERTIES, "PropertiesChanged", own.machine)
    assert own.agent.terminate() == 0
    own.wait_state("offline", 2)
    assert own.property("LastError") == "agent is shutting down"
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 1))
    assert name == OFFLINE
    assert "web1" in message and "agent is shutting down" in message and "check cbus-agent there" in message
    own.start_agent()
    own.wait_online()
    client.wait(lambda: any(c.get("Online") for c in changes(client, own.machine)), "its return")
    states = [c["State"] for c in changes(client, own.machine) if "State" in c]
    assert states[0] == "offline" and states[-1] == "online"
    assert set(states[1:-1]) <= {"connecting", "offline"}
    errors = [c["LastError"] for c in changes(client, own.machine) if "LastError" in c]
    assert errors[0] == "agent is shutting down" and errors[-1] == ""
    for change in changes(client, own.machine):
        assert not {"RoundTrip", "LastSeen"} & set(change)
        assert "State" not in change or ("Online" in change) == (change["State"] in ("online",) or change.get("Online") is False)


def test_a_link_that_ends_changes_everything_in_one_signal(own):
    client = own.new_client()
    client.watch(PROPERTIES, "PropertiesChanged", own.machine)
    own.agent.kill()
    own.wait_state("offline", 4)
    client.wait(lambda: changes(client, own.machine), "the change")
    first = changes(client, own.machine)[0]
    assert first["Online"] is False and first["State"] == "offline" and first["LastError"] != ""
    assert own.property("RoundTrip") == 0
    own.start_agent()
    own.wait_online()


def test_answers_of_a_lost_link_come_before_it_is_said_to_be_offline(own):
    order = []
    client = own.new_client()
    client.connection.signal_subscribe(NAME, PROPERTIES, "PropertiesChanged", own.machine, None, 0,
                                       lambda *args: order.append(("changed", args[-1].unpack()[1])))
    for number in range(5):
        client.connection.call(NAME, own.path(below="/com/example/Test"), "com.example.Test", "Hang", None, None, 0, 30000, None,
                               lambda _c, _r, number=number: order.append(("answer", number)))
    own.call("Echo", "(v)", GLib.Variant("u", 1), client=client)
    own.agent.kill()
    client.wait(lambda: any(what == "changed" and change.get("Online") is False for what, change in order), "offline", 5)
    client.wait(lambda: sum(what == "answer" for what, _ in order) == 5, "answers", 5)
    offline = next(i for i, (what, change) in enumerate(order) if what == "changed" and change.get("Online") is False)
    assert [what for what, _ in order[:offline]].count("answer") == 5, order
    own.start_agent()
    own.wait_online()


def test_an_unpinned_machine_is_added_when_it_comes_and_removed_when_it_goes():
    with Stack(known=False) as stack:
        client = stack.new_client()
        client.watch(None, None, ROOT)
        assert stack.property("NamePinned") is False
        assert stack.property("Name") == "remote-host"
        assert stack.agent.terminate() == 0
        client.wait(lambda: any(s[2] == "InterfacesRemoved" for s in client.signals), "InterfacesRemoved", 5)
        removed = next(i for i, s in enumerate(client.signals) if s[2] == "InterfacesRemoved")
        assert client.signals[removed] == (ROOT, MANAGER, "InterfacesRemoved", (stack.machine, [MACHINE]))
        offline = [i for i, s in enumerate(client.signals) if s[2] == "PropertiesChanged" and s[3][1].get("Online") is False]
        assert offline and offline[-1] < removed
        assert managed(stack) == {}
        name, message = stack.error("Echo", "(v)", GLib.Variant("u", 1))
        assert name == DBUS_ERROR + "UnknownObject"
        assert stack.nkey in message
        del client.signals[:]
        stack.start_agent()
        stack.wait_online()
        client.wait(lambda: any(s[2] == "PropertiesChanged" and s[3][1].get("Online") for s in client.signals), "online")
        first = client.signals[0]
        assert first[2] == "InterfacesAdded" and first[3][0] == stack.machine
        assert set(first[3][1]) == {MACHINE} and first[3][1][MACHINE]["NKey"] == stack.nkey
        stack.stop()


def test_a_pinned_machine_that_never_came_is_listed_with_what_to_do():
    with Stack() as stack:
        other = stack.new_nkey("other")
        client = stack.new_client()
        client.watch(None, None, ROOT)
        with open(stack.known_machines, "a", encoding="ascii") as file:
            file.write(f"{other} web2\n")
        client.wait(lambda: any(s[2] == "InterfacesAdded" for s in client.signals), "InterfacesAdded")
        path = f"{ROOT}/{other}"
        wait_for(lambda: managed(stack)[path][MACHINE]["LastError"].startswith("no presence heard"), "its LastError")
        values = managed(stack)[path][MACHINE]
        assert (values["State"], values["Online"], values["Name"], values["NamePinned"]) == ("offline", False, "web2", True)
        name, message = client.error(NAME, f"{path}/a_2eb", "a.b", "C")
        assert name == OFFLINE
        assert "web2" in message and "is cbus-agent running there" in message
        stack.known_machines.write_text(f"{stack.nkey} web1\n")
        client.wait(lambda: any(s[2] == "InterfacesRemoved" and s[3][0] == path for s in client.signals), "InterfacesRemoved")
        stack.stop()


def test_one_key_on_two_machines_is_said_and_the_links_do_not_take_turns(own):
    twin = Program("twin", own.directory)
    own.stack.callback(twin.kill)
    twin.spawn([BUILD / "agent/cbus-agent", "--nats", own.nats.url, "--key", own.machine_key, "--authorized-keys", own.authorized,
                "--bus", own.remote.address, "--name", "twin"])
    wait_for(lambda: "link accepted" in twin.log(), "the link to the one that started last")
    wait_for(lambda: "is its machine's key on two machines?" in own.proxy.log(), "it to be said", 20)
    assert own.nkey in next(line for line in own.proxy.log().splitlines() if "two machines?" in line)
    call = own.start("Hang")
    assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    heard = own.property("LastSeen")
    wait_for(lambda: own.property("LastSeen") > heard + 10_000_000, "both to announce themselves again", 20)
    assert not call and own.property("Online") is True
    assert twin.log().count("link accepted") == 1 and own.agent.log().count("link accepted") == 1
    assert own.proxy.log().count("two machines?") == 1
    assert twin.terminate() == 0


def test_an_unknown_key_is_unauthorized_and_told_what_to_do(own):
    calls = [own.start("Hang") for _ in range(3)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    text = own.authorized.read_text()
    own.authorized.write_text("# nobody\n")
    own.client.wait(lambda: all(calls), "answers", 3)
    assert {split_error(c[0])[0] for c in calls} == {DBUS_ERROR + "NoReply"}
    own.wait_state("unauthorized", 10)
    assert own.property("Online") is False
    operator = own.nkey_of(own.operator_key)
    assert operator in own.property("LastError") and "authorized-keys" in own.property("LastError")
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 1))
    assert name == DBUS_ERROR + "AccessDenied"
    assert "web1" in message and operator in message and "add this key" in message
    own.authorized.write_text(text)
    own.wait_online(timeout=30)


def test_a_key_that_was_never_authorized_never_gets_more_than_the_refusal(own):
    # Another operator, on a session bus of the same kind; the first one's link is not touched by it.
    calls = [own.start("Hang") for _ in range(3)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    with Stack() as stranger:
        stranger.proxy.terminate()
        stranger.proxy_url = own.nats.url
        stranger.known_machines.write_text(f"{own.nkey} target\n")
        stranger.start_proxy()
        stranger.nkey = own.nkey
        stranger.wait_state("unauthorized")
        name, message = stranger.error("Echo", "(v)", GLib.Variant("u", 1))
        assert name == DBUS_ERROR + "AccessDenied"
        assert "target" in message
        assert stranger.property("MachineId") == "" and stranger.property("Services") == []
    assert not any(calls)
    assert own.property("Online") is True


def test_daemons_started_before_the_broker_come_online_with_it(own):
    for program in (own.proxy, own.agent):
        program.terminate()
    own.nats.terminate()
    own.start_agent()
    own.start_proxy()
    wait_for(lambda: own.state() is not None, "the proxy")
    for program in (own.proxy, own.agent):
        wait_for(lambda program=program: "NATS can not be reached" in program.log(), f"{program.name} to say so")
    name, message = own.error("Echo", "(v)", GLib.Variant("u", 1))
    assert name == OFFLINE
    assert "web1" in message and "NATS can not be reached from here" in message, message
    own.nats.start()
    own.wait_online()


def test_why_a_machine_is_away_is_true_of_now(own):
    """NATS, while it is NATS that is away; and when it is back, the machine that is not."""
    for program in (own.proxy, own.agent):
        program.terminate()
    own.nats.terminate()
    own.start_proxy()
    wait_for(lambda: own.state() is not None, "the proxy")
    wait_for(lambda: own.property("LastError").startswith("NATS can not be reached from here: "), "the cause")
    own.nats.start()
    wait_for(lambda: "is cbus-agent running there" in own.property("LastError"), "the next cause")
    own.nats.terminate()
    wait_for(lambda: "NATS can not be reached from here" in own.property("LastError"), "the first cause again")
    own.nats.start()
    wait_for(lambda: "is cbus-agent running there" in own.property("LastError"), "the next cause again")
    own.start_agent()
    own.wait_online()


def test_a_name_that_is_owned_already_ends_the_second_proxy(own):
    second = Program("second", own.directory)
    second.spawn([BUILD / "proxy/cbus-proxy", "--nats", own.nats.url, "--key", own.operator_key, "--bus", own.session.address,
                  "--known-machines", own.known_machines, "--runtime-dir", own.directory / "runtime2"])
    assert second.process.wait(5) == 1
    assert NAME in second.log() and "owned" in second.log(), second.log()
    assert len(second.log().splitlines()) == 1, second.log()
    third = Program("third", own.directory)
    third.spawn([BUILD / "proxy/cbus-proxy", "--nats", own.nats.url, "--key", own.operator_key, "--bus", own.session.address,
                 "--known-machines", own.known_machines, "--runtime-dir", own.directory / "runtime"])
    assert third.process.wait(5) == 1
    assert str(own.directory / "runtime") in third.log()
    assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def test_unknown_members_of_a_machine_are_answered(own):
    for path in (own.machine, ROOT):
        interface = MACHINE if path == own.machine else "ie.bmcgee.CBus1.Cluster"
        assert own.client.error(NAME, path, interface, "Nonsense")[0] == DBUS_ERROR + "UnknownMethod"
        assert own.client.error(NAME, path, "no.such.Interface", "Nonsense")[0] in (DBUS_ERROR + "UnknownInterface",
                                                                                DBUS_ERROR + "UnknownMethod")
        assert own.client.error(NAME, path, PROPERTIES, "Get", "(ss)", interface, "Nonsense")[0] in (
            DBUS_ERROR + "UnknownProperty", DBUS_ERROR + "InvalidArgs")
        assert own.client.error(NAME, path, PROPERTIES, "Set", "(ssv)", interface, "NKey", GLib.Variant("s", "x"))[0] in (
            DBUS_ERROR + "PropertyReadOnly", DBUS_ERROR + "InvalidArgs")
    for interface, member in ((MACHINE, "Nonsense"), ("no.such.Interface", "Nonsense"), ("com.example.Test", "Echo")):
        name, message = own.client.error(NAME, own.machine, interface, member)
        assert name == DBUS_ERROR + "UnknownMethod"
        assert "web1" in message and own.nkey in message and f"{interface}.{member}" in message, message
        assert f"{own.machine}/<service>" in message and "Services" in message, message


def test_a_machine_object_refuses_a_wrong_signature(own):
    for interface, member, signature, args in ((MACHINE, "Ping", "(s)", ("x",)), (PROPERTIES, "Get", "(s)", (MACHINE,)),
                                               (PROPERTIES, "GetAll", None, ())):
        name, message = own.client.error(NAME, own.machine, interface, member, signature, *args)
        assert name == DBUS_ERROR + "InvalidArgs"
        assert "web1" in message and own.nkey in message and f"{interface}.{member}" in message, message
        assert signature is None or signature in message
    assert own.client.call(NAME, own.machine, "org.freedesktop.DBus.Peer", "Ping") == ()


def test_what_lies_above_the_machines_is_no_object(own):
    assert own.client.error(NAME, "/ie/bmcgee", MACHINE, "Ping")[0] in (DBUS_ERROR + "UnknownObject", DBUS_ERROR + "UnknownMethod")


@pytest.mark.parametrize("bus", ["system", None])
def test_a_message_over_the_remote_buss_limit_is_answered(own, bus):
    own.agent.terminate()
    own.start_agent(bus, system=True)
    own.wait_online()
    for size, fits in ((33 * 1024 * 1024, False), (31 * 1024 * 1024, True)):
        try:
            reply = raw_call(own, "Length", GLib.Variant.new_tuple(blob(size)))
            assert fits and reply.unpack() == (size,)
        except GLib.Error as error:
            name, message = split_error(error)
            assert not fits and name == DBUS_ERROR + "LimitsExceeded"
            assert "remote-host" in message and str(32 * 1024 * 1024) in message, message
    assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def test_a_reply_that_outgrows_the_limit_by_translation_is_answered(own):
    # The array fits its 64 MiB by less than a mirrored path is longer.
    item = GLib.Variant.new_tuple(blob(64 * 1024 * 1024 - 64), GLib.Variant("o", "/a"))
    with pytest.raises(GLib.Error) as caught:
        raw_call(own, "Echo", GLib.Variant.new_tuple(GLib.Variant.new_variant(GLib.Variant.new_array(item.get_type(), [item]))))
    name, message = split_error(caught.value)
    assert name == DBUS_ERROR + "LimitsExceeded"
    assert "web1" in message, message
    assert own.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)


def events(program):
    """Its log without the audit, which records calls."""
    return [line for line in program.log().splitlines() if ": audit: " not in line]


def test_log_lines_tell_events_and_no_messages(own):
    before = {program.name: len(events(program)) for program in (own.proxy, own.agent)}
    assert before == {"proxy": 3, "agent": 4}, (own.proxy.log(), own.agent.log())
    for _ in range(200):
        own.call("Echo", "(v)", GLib.Variant("u", 1))
    own.error("Nonsense")
    own.call("Emit", "(o)", "/x")
    assert {program.name: len(events(program)) for program in (own.proxy, own.agent)} == before
    own.agent.terminate()
    own.wait_state("offline", 3)
    own.start_agent()
    own.wait_online()
    lines = events(own.proxy)
    assert len(lines) == before["proxy"] + 2, lines
    assert "offline" in lines[-2] and "agent is shutting down" in lines[-2] and own.nkey in lines[-2]
    assert "online" in lines[-1] and "web1" in lines[-1]


def wakeups(program):
    """How often the threads of PROGRAM went to sleep by themselves."""
    return sum(int(line.split()[1]) for task in pathlib.Path(f"/proc/{program.process.pid}/task").iterdir()
               for line in (task / "status").read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))


def test_idle_daemons_hardly_wake_up(own):
    # Right after a call both ends still ping each second; then a tick a second and presence every five remain.
    end = time.monotonic() + 7
    own.client.wait(lambda: time.monotonic() > end, "the links to calm down", 10)
    before = {program: wakeups(program) for program in (own.proxy, own.agent)}
    end = time.monotonic() + 5
    own.client.wait(lambda: time.monotonic() > end, "a while", 10)
    for program, count in before.items():
        assert wakeups(program) - count <= 25, program.name


def test_both_daemons_may_open_as_many_files_as_the_system_lets_them(own):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for program in (own.proxy, own.agent):
        program.terminate()
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        own.start_agent()
        own.start_proxy()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    own.wait_online()
    for program in (own.proxy, own.agent):
        line = next(line for line in pathlib.Path(f"/proc/{program.process.pid}/limits").read_text().splitlines()
                    if line.startswith("Max open files"))
        assert line.split()[3] == str(before[1]), program.name
