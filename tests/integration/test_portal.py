"""Portals: a client that connects to a machine's socket is a client of that machine's bus, whatever library it uses, for
as long as it stays and no longer."""
import contextlib
import itertools
import os
import pathlib
import select
import socket
import stat
import subprocess
import sys
import time

import pytest
from gi.repository import Gio, GLib
from stack import BUILD, NAME, TEST, Peak, Program, wait_for

SERVICE = "com.example.One"
PATH = "/com/example/Test"
DRIVER = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
CLIENT = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION


def connect(address):
    return Gio.DBusConnection.new_for_address_sync(address, CLIENT, None, None)


def call(connection, member, parameters=None, destination=SERVICE, path=PATH, interface=TEST, timeout=15):
    return connection.call_sync(destination, path, interface, member, parameters, None, Gio.DBusCallFlags.NONE,
                                timeout * 1000, None).unpack()


def ask(connection, member, parameters=None):
    destination, path, interface = DRIVER
    return call(connection, member, parameters, destination, path, interface)


@pytest.fixture
def portal(stack):
    return stack.property("BusAddress")


@pytest.fixture
def direct(stack):
    """A connection to the remote bus itself."""
    connection = connect(stack.remote.address)
    yield connection
    connection.close_sync(None)


def socket_path(address):
    assert address.startswith("unix:path=/")
    return pathlib.Path(address[len("unix:path="):])


def has_owner(direct, name):
    return ask(direct, "NameHasOwner", GLib.Variant("(s)", (name,)))[0]


def run(*argv, env=None, timeout=30):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{argv}: {done.returncode}: {done.stderr}"
    return done.stdout


# --- where it is --------------------------------------------------------------------------------------------------


def test_the_socket_is_the_operators_alone(stack, portal):
    path = socket_path(portal)
    assert path == stack.directory / "runtime" / stack.nkey / "bus"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_pinned_name_leads_to_it(stack, portal):
    link = stack.directory / "runtime" / "by-name" / "web1"
    assert os.readlink(link) == f"../{stack.nkey}"
    connection = connect(f"unix:path={link}/bus")
    assert call(connection, "Sender") == (connection.get_unique_name(),)
    connection.close_sync(None)


def test_the_name_follows_known_machines(own):
    names = own.directory / "runtime" / "by-name"
    own.known_machines.write_text(f"{own.nkey} database\n")
    wait_for(lambda: os.listdir(names) == ["database"], "the link to have its new name")
    own.known_machines.write_text("")
    wait_for(lambda: os.listdir(names) == [], "the link to be gone")
    own.check()


def test_what_a_killed_proxy_left_is_removed(own):
    runtime = own.directory / "runtime"
    own.proxy.kill()
    left = runtime / ("U" + "A" * 55)
    left.mkdir()
    other = runtime / "notes"
    other.write_text("mine")
    assert (runtime / own.nkey / "bus").exists()
    own.start_proxy()
    own.wait_online()
    assert other.exists()
    connection = connect(own.property("BusAddress"))
    assert call(connection, "Sender")
    connection.close_sync(None)
    assert own.proxy.terminate() == 0
    assert sorted(p.name for p in runtime.iterdir() if p != left) == ["by-name", "lock", "notes"]
    assert os.listdir(runtime / "by-name") == []
    own.start_proxy()
    own.wait_online()


def test_a_path_too_long_for_a_socket_is_refused_at_start(stack, tmp_path):
    directory = tmp_path / ("d" * 60)
    done = subprocess.run([str(BUILD / "proxy/cbus-proxy"), "--nats", stack.nats.url, "--key", str(stack.operator_key),
                           "--bus", stack.session.address, "--runtime-dir", str(directory)], capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "--runtime-dir" in done.stderr
    assert str(directory) in done.stderr


@pytest.mark.parametrize("length", [99, 100])
def test_a_path_too_long_for_libdbus_is_warned_of(own, length):
    runtime = own.directory / "r".ljust(length - len(f"{own.directory}//{own.nkey}/bus"), "r")
    assert own.proxy.terminate() == 0
    own.proxy_options = ["--runtime-dir", runtime]
    own.start_proxy()
    own.wait_online()
    portal = own.property("BusAddress")
    assert len(str(socket_path(portal))) == length
    assert SERVICE in run("busctl", f"--address={portal}", "--no-pager", "list")
    done = subprocess.run(["dbus-send", f"--bus={portal}", "--print-reply", f"--dest={SERVICE}", PATH, f"{TEST}.Child"], check=False,
                          capture_output=True, text=True, timeout=20)
    assert (done.returncode == 0) == (length == 99), done.stderr
    assert (f"{runtime}" in own.proxy.log() and "libdbus" in own.proxy.log()) == (length == 100), own.proxy.log()


# --- what a client sees -------------------------------------------------------------------------------------------


def test_a_client_has_a_remote_connection_of_its_own(portal, direct):
    first, second = connect(portal), connect(portal)
    assert first.get_unique_name() != second.get_unique_name()
    for connection in (first, second):
        assert has_owner(direct, connection.get_unique_name())
        assert call(connection, "Sender") == (connection.get_unique_name(),)
    names = ask(first, "ListNames")[0]
    assert SERVICE in names and NAME not in names
    first.close_sync(None)
    wait_for(lambda: not has_owner(direct, first.get_unique_name()), "the remote name to vanish")
    assert has_owner(direct, second.get_unique_name())
    second.close_sync(None)


def test_paths_and_bodies_are_as_they_are(portal):
    connection = connect(portal)
    body = GLib.Variant("(soa{ov})", (PATH, PATH, {PATH + "/child": GLib.Variant("o", "/")}))
    assert call(connection, "Paths", body) == body.unpack()
    assert call(connection, "Child") == (PATH + "/child",)
    connection.close_sync(None)


def test_signals_names_and_unicast(portal, direct):
    connection = connect(portal)
    seen = []
    connection.signal_subscribe(None, TEST, "Emitted", None, None, Gio.DBusSignalFlags.NONE,
                                lambda *a: seen.append((a[2], a[5].unpack())))
    connection.signal_subscribe(direct.get_unique_name(), "com.example.Unicast", None, None, None,
                                Gio.DBusSignalFlags.NO_MATCH_RULE, lambda *a: seen.append(a[4]))
    assert ask(connection, "RequestName", GLib.Variant("(su)", ("com.example.Mine", 4))) == (1,)
    assert ask(direct, "GetNameOwner", GLib.Variant("(s)", ("com.example.Mine",))) == (connection.get_unique_name(),)
    call(connection, "Emit", GLib.Variant("(o)", ("/of/the/machine",)))
    direct.emit_signal(connection.get_unique_name(), "/x", "com.example.Unicast", "ToYou", None)
    direct.flush_sync(None)
    ticking = GLib.timeout_add(20, lambda: True)
    wait_for(lambda: GLib.MainContext.default().iteration(True) and len(seen) == 2, "both signals")
    GLib.source_remove(ticking)
    assert set(seen) == {(PATH, ("/of/the/machine",)), "ToYou"}
    connection.close_sync(None)
    wait_for(lambda: not has_owner(direct, "com.example.Mine"), "the name to be released")


def test_large_messages_cross_both_ways(portal):
    connection = connect(portal)
    size = 20 * 1024 * 1024
    reply = connection.call_sync(SERVICE, PATH, TEST, "Bytes", GLib.Variant("(u)", (size,)), None, Gio.DBusCallFlags.NONE,
                                 60000, None)
    assert reply.get_child_value(0).get_size() == size
    data = GLib.Variant.new_tuple(GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(size)), True))
    assert call(connection, "Length", data, timeout=60) == (size,)
    connection.close_sync(None)


def test_descriptors_are_refused_and_the_connection_lives(portal):
    connection = connect(portal)
    assert not connection.get_capabilities() & Gio.DBusCapabilityFlags.UNIX_FD_PASSING
    connection.close_sync(None)


def test_a_reply_with_a_descriptor_becomes_an_error(portal):
    connection = connect(portal)
    with pytest.raises(GLib.Error, match="NotSupported"):
        call(connection, "Give", timeout=10)
    assert call(connection, "Sender") == (connection.get_unique_name(),)
    connection.close_sync(None)


def test_a_message_without_reply_is_delivered_though_its_sender_leaves(portal, stack):
    for i in range(20):
        run("dbus-send", f"--bus={portal}", "--type=method_call", f"--dest={SERVICE}", PATH, f"{TEST}.Notify", f"string:left{i}")
    wait_for(lambda: [n for n in stack.call("Notified")[0] if n.startswith("left")] == [f"left{i}" for i in range(20)],
             "what the senders said")


def test_a_hundred_clients_at_once(portal, direct):
    """Each with calls and signals of its own."""
    clients = [connect(portal) for _ in range(100)]
    assert len({c.get_unique_name() for c in clients}) == 100
    seen = []
    for client in clients:
        client.signal_subscribe(None, TEST, "Emitted", None, None, Gio.DBusSignalFlags.NONE, lambda c, *a: seen.append(c))
    answers = []
    for client in clients:
        client.call(SERVICE, PATH, TEST, "Sender", None, None, Gio.DBusCallFlags.NONE, 20000, None,
                    lambda c, r: answers.append((c.get_unique_name(), c.call_finish(r).unpack()[0])))
    ticking = GLib.timeout_add(20, lambda: True)
    wait_for(lambda: GLib.MainContext.default().iteration(True) and len(answers) == 100, "100 answers", 30)
    assert all(a == b for a, b in answers)
    for client in clients:
        ask(client, "GetId")
    call(direct, "Emit", GLib.Variant("(o)", ("/",)))
    wait_for(lambda: GLib.MainContext.default().iteration(True) and len(seen) == 100, "100 signals", 30)
    GLib.source_remove(ticking)
    for client in clients:
        client.close_sync(None)
    wait_for(lambda: not any(has_owner(direct, c.get_unique_name()) for c in clients), "all to be gone")


def test_one_client_too_many_is_refused_and_the_others_stay(own):
    portal = own.property("BusAddress")
    clients = []
    with pytest.raises(GLib.Error):
        while len(clients) < 200:
            clients.append(connect(portal))
    assert 100 <= len(clients) < 108  # the mirror has the rest
    wait_for(lambda: "this operator has too many channels on this machine" in own.proxy.log(), "the log to say why")
    assert all(call(c, "Sender") == (c.get_unique_name(),) for c in clients)
    clients.pop().close_sync(None)

    def again():
        with contextlib.suppress(GLib.Error):
            return connect(portal)
        return None

    clients.append(wait_for(again, "its place to be free"))
    for client in clients:
        client.close_sync(None)


@pytest.fixture
def tool(stack, direct):
    """Starts dbus-test-tool as the service com.example.DBusTool."""
    program = Program("dbus-test-tool", stack.directory)

    def start(*mode):
        program.spawn(["dbus-test-tool", mode[0], "--name=com.example.DBusTool", *mode[1:]],
                      env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": stack.remote.address})
        wait_for(lambda: has_owner(direct, "com.example.DBusTool"), "the service")

    yield start
    program.kill()


def spam(portal, *options):
    return run("dbus-test-tool", "spam", "--dest=com.example.DBusTool", *options, env={"DBUS_SESSION_BUS_ADDRESS": portal}, timeout=60)


def test_a_flood_is_answered_whole(portal, tool):
    """20 000 calls, 100 under way, over four connections one after the other; then large ones."""
    tool("echo")
    spam(portal, "--count=20000", "--queue=100", "--messages-per-conn=5000")
    spam(portal, "--count=500", "--queue=50", "--payload=" + "x" * 100000)


@pytest.mark.parametrize("mode", [("black-hole",), ("black-hole", "--no-read")], ids=" ".join)
def test_a_flood_that_nobody_answers_hurts_nobody_else(stack, portal, tool, mode):
    tool(*mode)
    spam(portal, "--count=20000", "--flood", "--no-reply", "--payload=" + "x" * 400)
    connection = connect(portal)
    assert call(connection, "Sender", timeout=10) == (connection.get_unique_name(),)
    connection.close_sync(None)
    stack.check()


# --- who is let in ------------------------------------------------------------------------------------------------


def raw(portal, data, timeout=8, leave=False):
    """What the socket answers to DATA until it closes; None when it does not within TIMEOUT. LEAVE: we say no more."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(socket_path(portal)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data)
        if leave:
            client.shutdown(socket.SHUT_WR)
        said = b""
        while True:
            try:
                more = client.recv(65536)
            except ConnectionResetError:
                return said
            except socket.timeout:
                return None
            if not more:
                return said
            said += more


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"\0BEGIN\r\n", b"\0" + b"A" * 5000, b"\0AUTH\r\n" * 40,
                                  b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n" + b"\x16\x03\x01" * 40],
                         ids=["http", "begin", "endless-line", "many-commands", "garbage-behind-begin"])
def test_garbage_is_cut_off(stack, portal, data):
    began = time.monotonic()
    assert raw(portal, data) is not None
    assert time.monotonic() - began < 3
    assert call(connect(portal), "Sender")


def test_a_slow_handshake_is_cut_off(portal):
    began = time.monotonic()
    assert raw(portal, b"\0AUTH EXTERNAL", timeout=9) == b""
    assert 3 < time.monotonic() - began < 8


def test_a_handshake_that_drips_is_cut_off(portal):
    """Every byte is taken, and none gives it more time; a hundred of its kind keep nobody out."""
    began = time.monotonic()
    with contextlib.ExitStack() as sockets:
        slow = [sockets.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for client in slow:
            client.connect(str(socket_path(portal)))
        open_ones = set(slow)
        for byte in itertools.chain(b"\0", itertools.repeat(ord("A"))):
            connection = connect(portal)
            connection.close_sync(None)
            for client in list(open_ones):
                try:
                    client.send(bytes([byte]))
                except (BrokenPipeError, ConnectionResetError):
                    open_ones.discard(client)
            if not open_ones:
                break
            assert time.monotonic() - began < 15
            select.select(open_ones, [], [], 0.2)
    assert time.monotonic() - began > 3


def test_other_mechanisms_are_rejected(portal):
    said = raw(portal, b"\0AUTH\r\nAUTH ANONYMOUS\r\nAUTH DBUS_COOKIE_SHA1 30\r\n", leave=True)
    assert said == b"REJECTED EXTERNAL\r\n" * 3


def test_another_user_is_not_let_in(portal):
    if os.geteuid() != 0:
        pytest.skip("another user can only be tried as root")
    path = socket_path(portal)
    runtime = path.parent.parent
    try:
        for directory in (runtime.parent, runtime, path.parent):
            directory.chmod(0o755)
        path.chmod(0o666)
        script = ("import socket,sys,os; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                  "s.sendall(b'\\0AUTH EXTERNAL\\r\\nDATA\\r\\n'); print(s.recv(100)); print(s.recv(100))")
        said = run(sys.executable, "-c", script, path)
        assert "REJECTED EXTERNAL" in said and "OK" not in said
    finally:
        path.chmod(0o600)
        for directory in (runtime.parent, runtime, path.parent):
            directory.chmod(0o700)


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_closed_and_others_live(own):
    portal = own.property("BusAddress")
    other = connect(portal)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(str(socket_path(portal)))
    deaf.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
    hello = Gio.DBusMessage.new_method_call(*DRIVER, "Hello")
    deaf.sendall(blob(hello, 1))
    for serial in range(2, 42):
        message = Gio.DBusMessage.new_method_call(SERVICE, PATH, TEST, "Bytes")
        message.set_body(GLib.Variant("(u)", (4 * 1024 * 1024,)))
        deaf.sendall(blob(message, serial))
    peak = Peak(own)

    def told():
        peak.look()
        return "does not read" in own.proxy.log() or "too slowly" in own.agent.log()

    wait_for(told, "the log to say so", 30)
    assert call(other, "Sender", timeout=10) == (other.get_unique_name(),)
    peak.check(64 << 20)
    deaf.close()
    other.close_sync(None)
    own.check()


def blob(message, serial):
    message.set_serial(serial)
    return message.to_blob(Gio.DBusCapabilityFlags.NONE)


def test_a_huge_stream_does_not_starve_the_others(own):
    portal = own.property("BusAddress")
    greedy, modest = connect(portal), connect(portal)
    data = GLib.Variant.new_tuple(GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(8 << 20)), True))
    answers = []
    for _ in range(12):
        greedy.call(SERVICE, PATH, TEST, "Length", data, None, Gio.DBusCallFlags.NONE, 60000, None,
                    lambda c, r: answers.append(c.call_finish(r).unpack()))
    slowest = 0
    peak = Peak(own)
    ticking = GLib.timeout_add(10, lambda: True)

    def done():
        nonlocal slowest
        began = time.monotonic()
        ask(modest, "GetId")
        slowest = max(slowest, time.monotonic() - began)
        peak.look()
        GLib.MainContext.default().iteration(True)
        return len(answers) == 12

    wait_for(done, "96 MiB to arrive", 60)
    GLib.source_remove(ticking)
    assert slowest < 2
    peak.check(64 << 20)
    assert answers == [(8 << 20,)] * 12
    for connection in (greedy, modest):
        connection.close_sync(None)
    own.check()


# --- when something breaks ----------------------------------------------------------------------------------------


def closed(connections):
    return all(c.is_closed() for c in connections)


@pytest.mark.parametrize("what", ["agent", "nats"])
def test_a_lost_link_closes_every_connection_and_a_new_one_works_afterwards(own, what):
    portal = own.property("BusAddress")
    connections = [connect(portal) for _ in range(5)]
    getattr(own, what).kill()
    ticking = GLib.timeout_add(20, lambda: True)
    wait_for(lambda: GLib.MainContext.default().iteration(True) and closed(connections), "the connections to close", 5)
    GLib.source_remove(ticking)
    began = time.monotonic()
    assert raw(portal, b"") == b""
    assert time.monotonic() - began < 0.5
    wait_for(lambda: "A portal connection was refused" in own.proxy.log(), "the log to say why")
    line = [line for line in own.proxy.log().splitlines() if "A portal connection was refused" in line][-1]
    assert "offline" in line and "reason=" in line
    if what == "agent":
        own.start_agent()
    else:
        own.nats.start()
    own.wait_online()
    assert call(connect(portal), "Sender")


def test_a_remote_bus_that_closes_a_connection_closes_the_clients(own):
    connection = connect(own.property("BusAddress"))
    own.remote.kill()
    ticking = GLib.timeout_add(20, lambda: True)
    wait_for(lambda: GLib.MainContext.default().iteration(True) and connection.is_closed(), "the connection to close", 5)
    GLib.source_remove(ticking)
