"""Each daemon ends within a second of SIGTERM or SIGINT in whatever state it is, in order, with status 0; and what can
not start says why in one line."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
from broker import RawNats, Relay
from gi.repository import GLib
from stack import BUILD, NAME, Program, split_error, wait_for

DBUS_ERROR = "org.freedesktop.DBus.Error."
PRESENCE = 4


def ends(program, number=signal.SIGTERM):
    """The exit status, which must come within a second."""
    program.process.send_signal(number)
    began = time.monotonic()
    try:
        status = program.process.wait(3)
    except subprocess.TimeoutExpired:
        program.kill()
        raise AssertionError(f"{program.name} did not end: {program.log()[-2000:]}") from None
    assert time.monotonic() - began < 1, f"{program.name} took {time.monotonic() - began:.2f} s: {program.log()[-2000:]}"
    return status


def takes_sigterm(program):
    with open(f"/proc/{program.process.pid}/status", encoding="ascii") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def restarted(stack):
    """What a test ended is there again, for the check at its end."""
    for program, start in ((stack.agent, stack.start_agent), (stack.proxy, stack.start_proxy)):
        if not program.running:
            start()
    stack.wait_online()


@pytest.mark.skipif(os.geteuid() != 0, reason="where a daemon waits is for root to see")
@pytest.mark.parametrize("daemon", ["agent/cbus-agent", "proxy/cbus-proxy"])
def test_signals_wait_from_the_first_moment(daemon, tmp_path):
    """Not even settings are read: the FIFO is where they wait, and that it is none is how they end."""
    fifo = tmp_path / "settings"
    os.mkfifo(fifo)
    program = Program("daemon", tmp_path).spawn([BUILD / daemon, "--config", fifo])
    try:
        waits = pathlib.Path(f"/proc/{program.process.pid}/wchan")
        wait_for(lambda: waits.read_text() == "wait_for_partner", "the daemon to open its settings")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            program.process.send_signal(number)
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        assert program.process.wait(5) == 2, program.log()
        assert "Not a regular file" in program.log()
    finally:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_online(own, number):
    with contextlib.closing(RawNats(own.nats.port)) as raw:
        raw.subscribe("cbus.v1.*.here")
        assert ends(own.agent, number) == 0
        raw.flush()
        assert any(payload[5] == PRESENCE and payload[64] == 1 for _s, _r, payload in raw.seen), "a farewell"
        own.wait_state("offline", 1)
    assert ends(own.proxy, number) == 0
    assert own.client.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "(s)", NAME) == (False,)
    restarted(own)


def test_with_calls_pending(own):
    calls = [own.start("Hang") for _ in range(100)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    assert ends(own.agent) == 0
    own.client.wait(lambda: all(calls), "answers", 2)
    assert {split_error(call[0])[0] for call in calls} == {DBUS_ERROR + "NoReply"}
    assert all("agent is shutting down" in split_error(call[0])[1] for call in calls)
    own.start_agent()
    own.wait_online()
    calls = [own.start("Hang") for _ in range(100)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    assert ends(own.proxy) == 0
    own.client.wait(lambda: all(calls), "answers", 2)
    assert {split_error(call[0])[0] for call in calls} == {DBUS_ERROR + "NoReply"}
    restarted(own)


def test_while_the_broker_is_away(own):
    own.nats.kill()
    own.wait_state("offline", 3)
    assert ends(own.agent) == 0
    assert ends(own.proxy) == 0
    for program, start in ((own.proxy, own.start_proxy), (own.agent, own.start_agent)):
        told = len(program.log())
        start()
        wait_for(lambda program=program, told=told: "NATS can not be reached" in program.log()[told:], f"{program.name} to try")
        assert ends(program) == 0, program.log()
    own.nats.start()
    restarted(own)


def test_while_the_broker_hangs(own):
    own.nats.process.send_signal(signal.SIGSTOP)
    try:
        calls = [own.start("Hang") for _ in range(10)]
        assert not any(calls)
        assert ends(own.agent) == 0
        assert ends(own.proxy) == 0
    finally:
        own.nats.process.send_signal(signal.SIGCONT)
    restarted(own)


def test_while_a_broker_accepts_and_says_nothing(own):
    for program in (own.agent, own.proxy):
        program.terminate()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        own.agent_url = own.proxy_url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        for program, start in ((own.agent, own.start_agent), (own.proxy, own.start_proxy)):
            start()
            mute.settimeout(10)
            connection, _ = mute.accept()
            with connection:
                assert ends(program) == 0, program.log()
    own.agent_url = own.proxy_url = None
    restarted(own)


def test_while_a_broker_stalls_in_the_tls_handshake(own):
    for program in (own.agent, own.proxy):
        program.terminate()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(10)
        own.agent_url = own.proxy_url = f"tls://127.0.0.1:{mute.getsockname()[1]}"
        for program, start in ((own.agent, own.start_agent), (own.proxy, own.start_proxy)):
            start()
            connection, _ = mute.accept()
            with connection:
                connection.settimeout(10)
                connection.sendall(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"tls_required":true}\r\n')
                assert connection.recv(1) == b"\x16", "a ClientHello"
                # A part of a record, so that it waits for the rest.
                connection.sendall(b"\x16\x03\x03\x00")
                assert ends(program) == 0, program.log()
    own.agent_url = own.proxy_url = None
    restarted(own)


def test_while_the_machines_bus_hangs(own):
    calls = [own.start("Hang") for _ in range(10)]
    own.call("Echo", "(v)", GLib.Variant("u", 1))
    own.remote.process.send_signal(signal.SIGSTOP)
    try:
        calls += [own.start("Echo", "(v)", GLib.Variant("u", 1)) for _ in range(10)]
        assert ends(own.agent) == 0
        own.client.wait(lambda: all(calls), "answers", 2)
        # And while a channel is being connected.
        own.start_agent()
        own.wait_state("online")
        calls = [own.start("Hang") for _ in range(10)]
        assert own.state() == "online" and not any(calls)
        assert ends(own.agent) == 0
        own.client.wait(lambda: all(calls), "answers", 2)
    finally:
        own.remote.process.send_signal(signal.SIGCONT)
    restarted(own)


def test_while_the_session_bus_hangs(own):
    own.session.process.send_signal(signal.SIGSTOP)
    try:
        assert ends(own.proxy) == 0
        own.start_proxy()
        wait_for(lambda: takes_sigterm(own.proxy), "the proxy to take SIGTERM")
        assert ends(own.proxy) == 0
    finally:
        own.session.process.send_signal(signal.SIGCONT)
    restarted(own)


@pytest.mark.parametrize("lost", [1, 2, 3], ids=["hello", "welcome", "finish"])
def test_in_mid_handshake(own, lost):
    own.agent.terminate()
    with contextlib.closing(Relay(own.nats.port)) as relay:
        dropped = []

        def hook(_way, _subject, _reply, payload):
            if payload[:4] == b"CBUS" and payload[5] == lost:
                dropped.append(payload)
                return []
            return [payload]

        relay.hook = hook
        own.agent_url = relay.url
        own.start_agent()
        wait_for(lambda: dropped, "the flight that is lost")
        assert ends(own.agent) == 0
        del dropped[:]
        own.start_agent()
        wait_for(lambda: dropped, "the flight that is lost")
        assert ends(own.proxy) == 0
        own.agent.terminate()
        own.agent_url = None
    restarted(own)


def refused(own, daemon, *arguments, status=1):
    program = Program(f"{daemon}-refused", own.directory)
    program.spawn([BUILD / daemon / f"cbus-{daemon}", *arguments])
    assert program.process.wait(5) == status, program.log()
    lines = [line for line in program.log().splitlines() if not line.endswith(" 1 authorized keys")]
    program.log_file.unlink()
    assert len(lines) == 1, lines
    return lines[0]


def test_what_can_not_start_says_why(own):
    agent = ("--nats", own.nats.url, "--authorized-keys", own.authorized, "--bus", own.remote.address)
    proxy = ("--nats", own.nats.url, "--bus", own.session.address, "--runtime-dir", own.directory / "other")
    missing = own.directory / "nowhere"
    for daemon, options in (("agent", agent), ("proxy", proxy)):
        line = refused(own, daemon, *options, "--key", missing)
        assert str(missing) in line and "No such file" in line, line
        readable = own.directory / "readable"
        readable.write_bytes(own.operator_key.read_bytes())
        readable.chmod(0o644)
        line = refused(own, daemon, *options, "--key", readable)
        assert str(readable) in line and "chmod" in line, line
        line = refused(own, daemon, *options, "--key", f"{own.operator_key}.pub")
        assert "private" in line, line
        line = refused(own, daemon, *options, "--key", own.machine_key, "--nonsense", status=2)
        assert "nonsense" in line, line
    assert str(missing) in refused(own, "proxy", *proxy, "--key", own.operator_key, "--bus", f"unix:path={missing}")
    line = refused(own, "proxy", *proxy, "--key", own.operator_key, "--runtime-dir", own.directory / ("x" * 108))
    assert "107" in line or "long" in line, line
    for daemon in ("agent", "proxy"):
        line = refused(own, daemon, *(agent if daemon == "agent" else proxy), "--key", own.machine_key, "--nats", "gopher://x", status=1)
        assert "gopher" in line, line


def test_a_new_reason_for_having_no_broker_is_said(own):
    own.nats.kill()
    said = {program: lambda program=program: program.log().count("NATS can not be reached") for program in (own.agent, own.proxy)}
    for program, count in said.items():
        # Once, or twice: while the server dies, the first cause may be another than that nobody listens.
        wait_for(lambda count=count: count() >= 1, f"{program.name} to say that there is none")
    before = {program: count() for program, count in said.items()}
    with socket.create_server(("127.0.0.1", own.nats.port)) as other:
        other.settimeout(10)
        while not all(count() > before[program] for program, count in said.items()):
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-not-a-broker\r\n")
    own.nats.start()
    own.wait_online()


@pytest.mark.parametrize("daemon", ["agent/cbus-agent", "proxy/cbus-proxy"])
def test_a_log_level_that_is_none_is_refused(daemon):
    refused = subprocess.run([BUILD / daemon], env={**os.environ, "LOG_LEVEL": "loud"}, capture_output=True, text=True, check=False,
                             timeout=20)
    assert refused.returncode == 2
    assert "log-level" in refused.stderr and "loud" in refused.stderr, refused.stderr
    assert "--version" in subprocess.run([BUILD / daemon, "--help"], capture_output=True, text=True, check=True, timeout=20).stdout
