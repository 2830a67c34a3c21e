"""cbus machines against a roster of our making: what is shown, how it waits, how it ends."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from stack import wait_for
from terminal import Terminal

HERE = pathlib.Path(__file__).resolve().parent
CBUS = pathlib.Path(os.environ.get("CBUS_BUILD", HERE.parents[1] / "build")).resolve() / "cli" / "cbus"
WEB = "UAWEB1" + "A" * 50
DB = "UADATABASE" + "B" * 46
STRANGER = "UADATABASF" + "C" * 46


class Bus:
    """A private bus, and the stand-in for cbus-proxy on it."""

    def __init__(self, directory):
        self.address = f"unix:path={directory}/bus"
        self.daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1",
                                        f"--address={self.address}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True)
        assert self.daemon.stdout.readline().startswith(self.address)
        # The distribution's Python: it has GIO's bindings.
        self.proxy = subprocess.Popen(["/usr/bin/python3", "-B", HERE / "fake_proxy.py"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": self.address})

    def close(self):
        for process in (self.proxy, self.daemon):
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()

    def order(self, **order):
        self.proxy.stdin.write(json.dumps(order) + "\n")
        self.proxy.stdin.flush()
        assert self.proxy.stdout.readline() == "ok\n"

    def machine(self, nkey, **properties):
        self.order(machine=nkey, properties=properties)

    def start(self, *words, **env):
        return subprocess.Popen([CBUS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": self.address, **env})

    def cbus(self, *words, **env):
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=20)
        return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.fixture
def bus(tmp_path):
    bus = Bus(tmp_path)
    yield bus
    bus.close()


@pytest.fixture
def roster(bus):
    bus.order(own=True)
    now = int(time.time() * 1e6)
    bus.machine(WEB, Name="web1", NamePinned=True, Online=True, State="online", RoundTrip=1234, LastSeen=now,
                Version="0.1.0", LastError="", Services=["a.b", "c.d"], SignalsLost=18446744073709551615, MachineId="m",
                BootId="b", BusAddress="unix:path=/run/x")
    bus.machine(DB, Name="db", NamePinned=True, Online=False, State="unauthorized", LastSeen=now - 600_000_000,
                LastError="no line for UXYZ in /etc/cbus/authorized_keys")
    bus.machine(STRANGER, Name="a\x1b[31m\u202e\u009b\\web1", NamePinned=False, Online=False, State="offline", LastSeen=0,
                LastError="line\nbreak", Version="0" * 500)
    return bus


def test_table_shows_each_machine_with_state_and_reason(roster):
    result = roster.cbus("machines")
    assert (result.returncode, result.stderr) == (0, "")
    heading, db, web, stranger = result.stdout.splitlines()
    assert heading.split() == ["NAME", "NKEY", "STATE", "ROUND", "TRIP", "SEEN", "VERSION", "REASON"]
    # The two keys that begin alike are told apart by their tenth character.
    assert db.split()[:3] == ["db", DB[:10], "unauthorized"]
    assert "10 min ago" in db and db.endswith("no line for UXYZ in /etc/cbus/authorized_keys")
    assert web.split() == ["web1", WEB[:10], "online", "1.2", "ms", *web.split()[5:-1], "0.1.0"]
    assert stranger.split()[1:5] == [STRANGER[:10], "offline", "-", "never"]


def test_remote_text_can_not_drive_a_terminal(roster):
    result = roster.cbus("machines")
    stranger = result.stdout.splitlines()[3]
    assert stranger.startswith("a\\x1b[31m\\u202e\\u009b\\\\web1?  ")
    assert "line\\x0abreak" in stranger
    assert len(stranger) < 300
    for text in (result.stdout, roster.cbus("machines", "--json").stdout):
        assert all(character.isprintable() or character == "\n" for character in text)


def test_json_holds_every_property(roster):
    result = roster.cbus("machines", "--json")
    assert result.returncode == 0
    db, web, stranger = json.loads(result.stdout)
    assert web["NKey"] == WEB and web["Services"] == ["a.b", "c.d"] and web["SignalsLost"] == 18446744073709551615
    assert web["Online"] is True and web["RoundTrip"] == 1234
    assert len(web) == 14
    assert stranger["Name"] == "a\x1b[31m\u202e\u009b\\web1" and stranger["NamePinned"] is False
    assert db["State"] == "unauthorized"


def test_json_is_utf8_in_any_locale(bus):
    bus.order(own=True)
    bus.machine(WEB, Name="zürich", Online=True)
    process = subprocess.run([CBUS, "machines", "--json", "--bus", bus.address], capture_output=True, timeout=20,
                             env={**os.environ, "LC_ALL": "C"})
    assert json.loads(process.stdout.decode())[0]["Name"] == "zürich"


def test_output_that_can_not_be_written_is_a_failure(roster):
    with open("/dev/full", "w") as full:
        for words in ([CBUS, "machines"], [CBUS, "machines", "--json"]):
            process = subprocess.run([*words, "--bus", roster.address], stdout=full, stderr=subprocess.PIPE, timeout=20)
            assert process.returncode == 1 and b"standard output" in process.stderr


def test_no_machine_is_no_failure(bus):
    bus.order(own=True)
    result = bus.cbus("machines")
    assert (result.returncode, result.stdout) == (0, "") and "no machine" in result.stderr
    assert json.loads(bus.cbus("machines", "--json").stdout) == []


def test_objects_that_are_no_machines_are_left_out(bus):
    bus.order(own=True)
    bus.machine(WEB, NKey=DB, Name="liar", Online=True)
    assert json.loads(bus.cbus("machines", "--json").stdout) == []


def test_without_proxy_the_status_is_3_with_a_hint(bus):
    result = bus.cbus("machines")
    assert result.returncode == 3 and result.stdout == ""
    assert "cbus-proxy" in result.stderr and "--bus" in result.stderr


def test_without_bus_the_status_is_3_with_a_hint(bus):
    for address in ("unix:path=/nowhere", "nonsense", "nosuch:a=b"):
        result = bus.cbus("machines", "--bus", address)
        assert result.returncode == 3 and address in result.stderr and "--bus" in result.stderr


def test_bus_option_beats_environment_and_session_is_the_sessions(roster):
    assert roster.cbus("machines", "--bus", roster.address, CBUS_BUS="unix:path=/nowhere").returncode == 0
    session = {"DBUS_SESSION_BUS_ADDRESS": roster.address}
    assert roster.cbus("machines", CBUS_BUS="", **session).returncode == 0
    assert roster.cbus("machines", "--bus", "session", CBUS_BUS="unix:path=/nowhere", **session).returncode == 0
    assert roster.cbus("machines", "--bus", "system", DBUS_SYSTEM_BUS_ADDRESS=roster.address).returncode == 0


def test_a_proxy_that_hangs_costs_the_timeout(roster):
    roster.order(hang=True)
    before = time.monotonic()
    result = roster.cbus("machines", "--timeout", "0.3")
    assert result.returncode == 1 and "0.3 s" in result.stderr
    assert time.monotonic() - before < 5


def test_wait_is_over_at_once_when_enough_are_online(roster):
    result = roster.cbus("machines", "--wait", "1")
    assert result.returncode == 0 and "web1" in result.stdout


def test_wait_that_is_not_fulfilled_fails_and_shows_why(roster):
    result = roster.cbus("machines", "--wait", "2", "--timeout", "0.3")
    assert result.returncode == 1
    assert "1 of 2" in result.stderr
    assert "unauthorized" in result.stdout


def read_until_subscribed(bus):
    """Returns once somebody has a match for the proxy's signals."""
    def subscribed():
        out = subprocess.run(["busctl", f"--address={bus.address}", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                              "org.freedesktop.DBus.Debug.Stats", "GetAllMatchRules"], capture_output=True, text=True, check=True)
        return "ie.bmcgee.CBus1.Machine" in out.stdout and "ObjectManager" in out.stdout
    wait_for(subscribed, "somebody to subscribe")


def test_wait_sees_a_machine_come_online(roster):
    process = roster.start("machines", "--wait", "2", "--timeout", "15")
    read_until_subscribed(roster)
    assert process.poll() is None
    roster.machine(DB, Online=True, State="online")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert out.count(" online ") == 2


def test_wait_sees_a_new_machine(roster):
    process = roster.start("machines", "--wait", "2", "--json")
    read_until_subscribed(roster)
    roster.machine("UANEW" + "D" * 51, Name="new", Online=True)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert len(json.loads(out)) == 4


def test_wait_waits_for_the_proxy(bus):
    bus.machine(WEB, Name="web1", Online=True)
    process = bus.start("machines", "--wait", "1", "--timeout", "15")
    read_until_subscribed(bus)
    assert process.poll() is None
    bus.order(own=True)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "web1" in out


def test_wait_without_proxy_ends_with_3(bus):
    assert bus.cbus("machines", "--wait", "1", "--timeout", "0.3").returncode == 3


def test_wait_ends_when_the_bus_goes(roster):
    process = roster.start("machines", "--wait", "2", "--timeout", "15")
    read_until_subscribed(roster)
    roster.daemon.terminate()
    assert process.wait(timeout=10) == 1
    process.communicate()


def test_machines_and_tags_narrow_the_listing(roster):
    roster.machine(DB, Tags=["web", "old"])
    assert [machine["NKey"] for machine in json.loads(roster.cbus("machines", "--json", "--on", "@old").stdout)] == [DB]
    assert [machine["NKey"] for machine in json.loads(roster.cbus("machines", "--json", "--nkeys", "web1", "--on", "@web").stdout)] == [WEB, DB]
    assert len(roster.cbus("machines", "--nkeys", STRANGER[:12]).stdout.splitlines()) == 2
    for words, status in (["--nkeys", "nobody"], 3), (["--on", "@none"], 3), (["--nkeys", "UADATABAS"], 2):
        result = roster.cbus("machines", *words)
        assert (result.returncode, result.stdout) == (status, "") and words[1].strip("@") in result.stderr
    # web1 is online already, and is not meant.
    assert roster.cbus("machines", "--on", "@old", "--wait", "1", "--timeout", "0.3").returncode == 1


def test_wait_waits_for_a_machine_that_is_not_known_yet(roster):
    new = "UANEW" + "D" * 51
    process = roster.start("machines", "--wait", "1", "--nkeys", new, "--json")
    read_until_subscribed(roster)
    assert process.poll() is None
    roster.machine(new, Name="new", Online=True)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert [machine["NKey"] for machine in json.loads(out)] == [new]
    assert roster.cbus("machines", "--wait", "1", "--nkeys", "nobody", "--timeout", "0.3").returncode == 3


def test_watch_stays_and_shows_what_changes(roster):
    process = roster.start("machines", "--watch", "--json")
    first = "".join(process.stdout.readline() for _ in range(3))
    assert len(json.loads(first)) == 3
    roster.machine(DB, Online=True, State="online")
    again = "".join(process.stdout.readline() for _ in range(3))
    assert [machine["State"] for machine in json.loads(again) if machine["NKey"] == DB] == ["online"]
    roster.daemon.terminate()
    assert process.wait(timeout=10) == 1
    process.communicate()


def lines(process, count):
    return "".join(process.stdout.readline() for _ in range(count))


def test_watch_into_a_pipe_shows_a_listing_when_something_changed(roster):
    process = roster.start("machines", "--watch")
    assert len(lines(process, 4).splitlines()) == 4
    # Ages, round trips and versions are no news.
    roster.machine(WEB, RoundTrip=99, LastSeen=1, Version="9")
    roster.machine(DB, Online=True, State="online", LastError="")
    assert [line.split()[2] for line in lines(process, 4).splitlines()[1:3]] == ["online", "online"]
    roster.order(own=False)
    assert process.stderr.readline() == "cbus: there is no cbus-proxy: waiting for it\n"
    roster.order(own=True)
    assert "web1" in lines(process, 4)
    roster.daemon.terminate()
    assert process.wait(timeout=10) == 1
    process.communicate()


def on_terminal(bus, *words, **env):
    return Terminal([CBUS, *words], {**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": bus.address, **env})


def test_watch_on_a_terminal_is_in_place(roster):
    home = "\033[H\033[2J"
    running = on_terminal(roster, "machines", "--watch")
    running.until("never")
    assert running.text.startswith(home + "NAME") and "no line for UXYZ" in running.text
    roster.machine(DB, Online=True, State="online", LastError="all is well")
    running.until("all is well")
    # And again without news, since ages grow; then without a proxy, in the place of what is not true any more.
    shown = running.text.count(home)
    wait_for(lambda: running.read() and running.text.count(home) > shown, "the next listing")
    roster.order(own=False)
    running.until("there is no cbus-proxy")
    assert running.text.rindex(home) > running.text.rindex("web1")
    running.type("\x03")
    running.finish()
    assert running.process.returncode == -signal.SIGINT


def test_watch_as_json_or_on_a_dumb_terminal_is_a_log(roster):
    for words, env in (["--json"], {}), ([], {"TERM": "dumb"}):
        running = on_terminal(roster, "machines", "--watch", *words, **env)
        running.until("UADATABASF")
        roster.machine(DB, LastError="all is well " + "".join(words))
        wait_for(lambda: running.read() and running.text.count(STRANGER[:10]) == 2, "the next listing")
        assert "all is well" in running.text and "\033" not in running.text
        running.type("\x03")
        running.finish()


def test_watch_and_wait_do_not_go_together(roster):
    assert roster.cbus("machines", "--watch", "--wait", "1").returncode == 2
