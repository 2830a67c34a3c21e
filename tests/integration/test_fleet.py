"""cbus get and cbus invoke on several machines: what is asked, shown, and told by the exit status."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest
from fleet import CBUS, Fleet
from stack import TEST, wait_for

ONE = "com.example.One"
OBJECT = "/com/example/Test"


@pytest.fixture(scope="module")
def fleet():
    with Fleet() as running:
        yield running
        running.stop()


def blocks(text):
    """{first word of a block's head: (rest of the head, value lines)}"""
    result = {}
    for line in text.splitlines():
        if line.startswith("  "):
            result[head][1].append(line[2:])
        else:
            head, _, rest = line.partition(" ")
            result[head] = (rest, [])
    return result


def test_get_shows_a_block_for_each_pinned_machine_and_names_who_failed(fleet):
    result = fleet.cbus("get", ONE, OBJECT, "Level")
    shown = blocks(result.stdout)
    assert shown["web1"] == (fleet.nkey, ["u 1"]) and shown["web2"][1] == ["u 1"] and shown["db1"][1] == ["u 1"]
    assert shown["gone1"][1][0].startswith("ie.bmcgee.CBus1.Error.Offline: ")
    assert len(shown) == 4 and "\033" not in result.stdout + result.stderr and "answered" not in result.stderr
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and f"gone1 {fleet.gone}" in result.stderr


def test_all_that_were_asked_answered_is_0(fleet):
    result = fleet.cbus("get", ONE, OBJECT, f"{TEST}.Level", "--nkeys", "web*,db1", "--ordered")
    assert (result.returncode, result.stderr) == (0, "")
    assert list(blocks(result.stdout)) == ["web1", "web2", "db1"]


def test_json_is_as_promised(fleet):
    value, result = fleet.json("get", ONE, OBJECT, "Level")
    assert (value["destination"], value["path"], result.returncode) == (ONE, OBJECT, 1)
    rows = {row["name"]: row for row in value["machines"]}
    assert rows["web1"] == {"nkey": fleet.nkey, "name": "web1", "ok": True, "type": "u", "data": 1}
    assert set(rows["gone1"]) == {"nkey", "name", "ok", "error", "message"} and rows["gone1"]["ok"] is False
    assert list(rows) == ["db1", "gone1", "web1", "web2"]
    value, _ = fleet.json("invoke", ONE, OBJECT, "Child", "--nkeys", "web1")
    assert value["machines"][0]["type"] == "o" and value["machines"][0]["data"] == [f"{OBJECT}/child"]
    value, _ = fleet.json("invoke", ONE, OBJECT, "Notify", "s", "json", "--nkeys", "web1")
    assert (value["machines"][0]["type"], value["machines"][0]["data"]) == ("", [])


@pytest.mark.parametrize("words", [
    ["v", "s", "text"], ["v", "s", "é\x1b\"'\\\n\t"], ["v", "as", "2", "a", ""], ["v", "a{sv}", "2", "k", "u", "7", "l", "as", "0"],
    ["v", "(ybnqiuxtd)", "255", "yes", "-5", "65535", "-7", "0x10", "-9", "18446744073709551615", "0.1"], ["v", "d", "1e100"],
    ["v", "g", "a{sv}"], ["v", "o", "/a/b"], ["v", "v", "v", "ay", "3", "1", "2", "3"], ["v", "aas", "2", "1", "x", "0"],
    ["v", "a(sv)", "1", "x", "b", "no"], ["v", "s", ""]])
def test_arguments_and_values_are_those_of_busctl(fleet, words):
    """The same words to busctl on the machine's own bus and to cbus, and the same text and JSON back."""
    busctl = ["busctl", f"--address={fleet.remote.address}", "call", "--", ONE, OBJECT, TEST, "Echo", *words]
    expected = subprocess.run(busctl, capture_output=True, text=True, check=True).stdout
    result = fleet.cbus("invoke", ONE, OBJECT, "Echo", "--nkeys", "web1", "--", *words)
    assert result.stdout.split("\n", 1)[1].strip() == expected.strip(), result.stderr
    busctl.insert(2, "--json=short")
    expected = json.loads(subprocess.run(busctl, capture_output=True, text=True, check=True).stdout)
    row = fleet.json("invoke", ONE, OBJECT, "Echo", "--nkeys", "web1", *words)[0]["machines"][0]
    assert (row["type"], row["data"]) == (expected["type"], expected["data"])


def test_json_arguments_need_no_signature(fleet):
    value, result = fleet.json("invoke", ONE, OBJECT, "Paths", "--nkeys", "web1", "--args-json",
                               '["text", "/a", {"/k": {"type": "o", "data": "/v"}}]')
    assert result.returncode == 0, result.stderr
    assert value["machines"][0]["data"] == ["text", "/a", [["/k", {"type": "o", "data": "/v"}]]] or \
        value["machines"][0]["data"] == ["text", "/a", {"/k": {"type": "o", "data": "/v"}}]
    assert fleet.cbus("invoke", ONE, OBJECT, "Paths", "--nkeys", "web1", "--args-json", '["text"]').returncode == 2


def test_an_ambiguous_member_lists_its_interfaces(fleet):
    result = fleet.cbus("invoke", "org.freedesktop.DBus", "/org/freedesktop/DBus", "NoSuch", "--nkeys", "web1")
    assert result.returncode == 1 and "NoSuch" in result.stderr


@pytest.mark.parametrize("words", [
    ["get", ONE, OBJECT], ["get", "nodots", OBJECT, "Level"], ["get", ONE, "relative", "Level"], ["get", ONE, OBJECT, "Le-vel"],
    ["get", ONE, OBJECT, "Level", "--timeout", "0"], ["get", ONE, OBJECT, "Level", "--batch", "-1"],
    ["get", ONE, OBJECT, "Level", "extra"], ["get", ONE, "/ie/bmcgee/CBus/x", "Level"],
    ["invoke", ONE, OBJECT, "Echo", "u", "x"], ["invoke", ONE, OBJECT, "Echo", "s", "a", "b"],
    ["invoke", ONE, OBJECT, "Echo", "--nonsense"], ["invoke", ONE, OBJECT, "Echo", "s", "x", "--args-json", "[]"],
    ["get", ONE, OBJECT, "Level", "--nkeys", "U"]])
def test_words_that_are_wrong_are_2_and_nothing_is_called(fleet, words):
    result = fleet.cbus(*words)
    assert (result.returncode, result.stdout) == (2 if words[-1] != "U" else 3, "") and result.stderr.startswith("cbus: ")


@pytest.mark.parametrize("nkeys", ["nobody", "zz*", ",", "stray", "host-stray"])
def test_no_machine_to_ask_is_3(fleet, nkeys):
    result = fleet.cbus("get", ONE, OBJECT, "Level", "--nkeys", nkeys)
    assert (result.returncode, result.stdout) == (3, "") and result.stderr.startswith("cbus: ")


def test_no_proxy_is_3(fleet):
    result = fleet.cbus("get", ONE, OBJECT, "Level", CBUS_BUS=fleet.remote.address)
    assert result.returncode == 3 and "cbus-proxy" in result.stderr


def test_unpinned_adds_the_rest_with_a_question_mark(fleet):
    shown = blocks(fleet.cbus("get", ONE, OBJECT, "Level", "--unpinned").stdout)
    assert shown["host-stray?"] == (fleet.stray.nkey, ["u 1"])
    result = fleet.cbus("get", ONE, OBJECT, "Level", "--nkeys", fleet.stray.nkey[:12])
    assert result.returncode == 0


def test_a_hung_machine_delays_only_itself_and_is_named(fleet):
    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    try:
        process = fleet.start_cbus("get", ONE, OBJECT, "Level", "--nkeys", "web1,web2,db1", "--timeout", "2")
        ready, _, _ = select.select([process.stdout], [], [], 1.5)
        first = os.read(process.stdout.fileno(), 4096).decode() if ready else ""
        out, err = process.communicate(timeout=20)
    finally:
        fleet.web2.agent.process.send_signal(signal.SIGCONT)
    assert "u 1" in first and "web2" not in first
    assert process.returncode == 1 and "web2" in err and "within 2 s" in err
    fleet.wait_machine(fleet.web2, True)


def notes(fleet, machine=None):
    row = fleet.json("invoke", ONE, OBJECT, "Notified", "--nkeys", machine or "web1")[0]["machines"][0]
    return row["data"][0]


def test_fail_fast_asks_no_further_machine(fleet):
    result = fleet.cbus("invoke", "--fail-fast", "--nkeys", "gone1,web1,web2", ONE, OBJECT, f"{TEST}.Notify", "s", "too far")
    assert result.returncode == 1 and result.stdout.count("NotAsked") == 2
    assert "too far" not in notes(fleet)


def test_batches_reach_everybody(fleet):
    result = fleet.cbus("invoke", "--batch", "1", "--nkeys", "web1,web2,db1", ONE, OBJECT, "Notify", "s", "batch")
    assert result.returncode == 0
    assert list(blocks(result.stdout).items())[0] == ("web1", (fleet.nkey, ["done"]))
    assert all("batch" in notes(fleet, name) for name in ("web1", "web2", "db1"))


class Terminal:
    """cbus on a terminal of its own."""

    def __init__(self, fleet, *words):
        self.parent, child = pty.openpty()
        self.process = subprocess.Popen([CBUS, *words], stdin=child, stdout=child, stderr=child, start_new_session=True,
                                        env={**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": fleet.session.address, "TERM": "xterm",
                                             "NO_COLOR": ""})
        os.close(child)
        self.text = ""

    def read_until(self, word=None, timeout=15):
        end = time.monotonic() + timeout
        while word is None or word not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.parent], [], [], 0.1)[0]:
                try:
                    data = os.read(self.parent, 4096)
                except OSError:  # the other side is closed
                    data = b""
                if not data:
                    break
                self.text += data.decode(errors="replace")
        return self.text

    def finish(self):
        self.read_until()
        os.close(self.parent)
        return self.process.wait(10)


def test_a_terminal_is_asked_before_several_machines_are_changed(fleet):
    terminal = Terminal(fleet, "invoke", ONE, OBJECT, "Notify", "s", "asked", "--nkeys", "web1,web2")
    terminal.read_until("[y/N]")
    assert "2 machines (web1, web2)" in terminal.text
    os.write(terminal.parent, b"n\n")
    assert terminal.finish() == 1 and "asked" not in notes(fleet)
    terminal = Terminal(fleet, "invoke", ONE, OBJECT, "Notify", "s", "asked", "--nkeys", "web1,web2")
    terminal.read_until("[y/N]")
    os.write(terminal.parent, b"y\n")
    assert terminal.finish() == 0 and "asked" in notes(fleet)


def test_yes_and_plain_reads_are_not_asked(fleet):
    terminal = Terminal(fleet, "invoke", "--yes", ONE, OBJECT, "Notify", "s", "yes", "--nkeys", "web1,web2")
    assert terminal.finish() == 0 and "[y/N]" not in terminal.text
    terminal = Terminal(fleet, "invoke", ONE, OBJECT, "org.freedesktop.DBus.Peer.Ping", "--nkeys", "web1,web2")
    assert terminal.finish() == 0 and "[y/N]" not in terminal.text


def test_a_terminal_has_colour_and_a_line_that_counts(fleet):
    terminal = Terminal(fleet, "get", ONE, OBJECT, "Level")
    assert terminal.finish() == 1
    assert "\033[1mweb1" in terminal.text and "\033[31m" in terminal.text and "of 4 answered" in terminal.text
    assert "1 of 4 machines failed: gone1" in terminal.text


def test_an_error_text_of_a_machine_can_not_drive_the_terminal(fleet):
    result = fleet.cbus("invoke", ONE, OBJECT, "Echo", "v", "s", "a\x1b[2Jb", "--nkeys", "web1")
    assert "\x1b" not in result.stdout and "\\033[2J" in result.stdout


def test_a_property_of_a_service_that_does_not_run_needs_its_interface(fleet):
    result = fleet.cbus("get", "com.example.Lazy", OBJECT, f"{TEST}.Level", "--nkeys", "web1")
    assert result.returncode == 0 and "u 1" in result.stdout
    wait_for(lambda: fleet.cbus("get", "com.example.Lazy", OBJECT, "Level", "--nkeys", "web1").returncode == 0, "it to run")


def test_tags_choose_machines_and_follow_the_file(fleet):
    before = fleet.known_machines.read_text()
    fleet.known_machines.write_text(before.replace(" web1\n", " web1 web,old\n").replace(" web2\n", " web2 web\n"))
    try:
        wait_for(lambda: fleet.web2.property("Tags") == ["web"], "the tags")
        assert set(blocks(fleet.cbus("get", ONE, OBJECT, "Level", "--on", "@web").stdout)) == {"web1", "web2"}
        assert set(blocks(fleet.cbus("get", ONE, OBJECT, "Level", "--on", "@old", "--nkeys", "db1").stdout)) == {"web1", "db1"}
        assert fleet.cbus("get", ONE, OBJECT, "Level", "--on", "@none").returncode == 3
    finally:
        fleet.known_machines.write_text(before)
    wait_for(lambda: fleet.web2.property("Tags") == [], "the tags to go")
