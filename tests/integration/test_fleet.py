"""cbus get and cbus invoke on several machines: what is asked, shown, and told by the exit status."""
import json
import os
import re
import select
import signal
import subprocess
import time

import pytest
from fleet import CBUS, Fleet
from stack import TEST, wait_for
from terminal import Terminal

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
    twins = f"{OBJECT}/twins"
    for words in (["get", ONE, twins, "Level"], ["invoke", ONE, twins, "Who"], ["wait", ONE, twins, "Level", "1"]):
        result = fleet.cbus(*words, "--nkeys", "web1")
        assert (result.returncode, result.stdout) == (2, "")
        assert f"com.example.Left.{words[3]}, com.example.Right.{words[3]}" in result.stderr
    for side in ("Left", "Right"):
        result = fleet.cbus("invoke", ONE, twins, f"com.example.{side}.Who", "--nkeys", "web1")
        assert result.returncode == 0 and f's "com.example.{side}"' in result.stdout
    # Only one of them has this.
    assert 's "left alone"' in fleet.cbus("get", ONE, twins, "Only", "--nkeys", "web1").stdout


def test_a_member_that_there_is_not_is_1_and_named(fleet):
    result = fleet.cbus("invoke", ONE, OBJECT, "NoSuch", "--nkeys", "web1")
    assert (result.returncode, result.stdout) == (1, "") and "NoSuch" in result.stderr and "web1" in result.stderr


def test_when_no_machine_is_online_each_is_named_all_the_same(fleet):
    for words in (["get", ONE, OBJECT, "Level"], ["invoke", ONE, OBJECT, "Child"], ["invoke", ONE, OBJECT, "Echo", "--args-json", "[]"]):
        result = fleet.cbus(*words, "--nkeys", "gone1")
        assert result.returncode == 1 and f"gone1 {fleet.gone}: ie.bmcgee.CBus1.Error.Offline: " in result.stderr
        rows = fleet.json(*words, "--nkeys", "gone1")[0]["machines"]
        assert [(row["name"], row["ok"], row["error"]) for row in rows] == [("gone1", False, "ie.bmcgee.CBus1.Error.Offline")]
    result = fleet.cbus("wait", ONE, OBJECT, "Level", "1", "--nkeys", "gone1")
    assert (result.returncode, result.stdout) == (1, "") and "name it" in result.stderr


def test_a_beginning_of_several_nkeys_is_2(fleet):
    common = os.path.commonprefix([fleet.nkey, fleet.web2.nkey])
    result = fleet.cbus("get", ONE, OBJECT, "Level", "--nkeys", common)
    # Four characters are no beginning, even of one alone.
    assert result.returncode == (2 if len(common) >= 5 else 3)
    assert fleet.cbus("get", ONE, OBJECT, "Level", "--nkeys", fleet.nkey[:4]).returncode == 3
    unique = fleet.nkey[:max(len(os.path.commonprefix([fleet.nkey, other])) for other in
                             (fleet.web2.nkey, fleet.db1.nkey, fleet.stray.nkey, fleet.gone)) + 5]
    assert fleet.cbus("get", ONE, OBJECT, "Level", "--nkeys", unique).returncode == 0


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


def test_a_machine_that_dies_meanwhile_is_named_before_its_time_is_up(fleet):
    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    process = fleet.start_cbus("get", ONE, OBJECT, f"{TEST}.Level", "--nkeys", "web2,web1,db1", "--timeout", "60")
    there = "".join(process.stdout.readline() for _ in range(4))
    assert set(blocks(there)) == {"web1", "db1"}
    fleet.web2.agent.kill()
    out = process.stdout.read()  # communicate() would miss what is buffered
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1 and list(blocks(out)) == ["web2"]
    assert f"web2 {fleet.web2.nkey}: org.freedesktop.DBus.Error.NoReply" in err and "within" not in err
    fleet.web2.start_agent()
    fleet.wait_machine(fleet.web2, True)


def notes(fleet, machine=None):
    row = fleet.json("invoke", ONE, OBJECT, "Notified", "--nkeys", machine or "web1")[0]["machines"][0]
    return row["data"][0]


def test_fail_fast_asks_no_further_machine(fleet):
    result = fleet.cbus("invoke", "--fail-fast", "--nkeys", "gone1,web1,web2", ONE, OBJECT, f"{TEST}.Notify", "s", "too far")
    assert result.returncode == 1 and result.stdout.count("NotAsked") == 2
    assert "too far" not in notes(fleet)


def test_fail_fast_ends_what_a_batch_began(fleet):
    result = fleet.cbus("invoke", "--fail-fast", "--batch", "2", "--nkeys", "gone1,web1,web2,db1", ONE, OBJECT, f"{TEST}.Notify", "s", "two")
    assert result.returncode == 1 and result.stdout.count("NotAsked") == 2
    assert "two" in notes(fleet) and "two" not in notes(fleet, "web2") + notes(fleet, "db1")


def order(fleet, *words):
    """The machines as their blocks come, while web2 hangs; and the seconds until the first."""
    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        process = fleet.start_cbus("get", ONE, OBJECT, f"{TEST}.Level", "--nkeys", "web2,web1,db1", "--timeout", "2", *words)
        first = process.stdout.readline()
        seconds = time.monotonic() - start
        rest = process.stdout.read()  # communicate() would miss what is buffered
        process.communicate(timeout=20)
    finally:
        fleet.web2.agent.process.send_signal(signal.SIGCONT)
    fleet.wait_machine(fleet.web2, True)
    return list(blocks(first + rest)), seconds


def test_a_batch_is_as_many_as_it_says_and_order_is_kept(fleet):
    assert order(fleet)[0][-1] == "web2"
    names, seconds = order(fleet, "--ordered")
    assert names == ["web2", "web1", "db1"] and seconds > 1.9
    # One at a time: nobody is asked while web2 is waited for. Two: web1 and db1 share the other place.
    names, seconds = order(fleet, "--batch", "1")
    assert names == ["web2", "web1", "db1"] and seconds > 1.9
    names, seconds = order(fleet, "--batch", "2")
    assert names == ["web1", "db1", "web2"] and seconds < 1.9


def test_batches_reach_everybody(fleet):
    result = fleet.cbus("invoke", "--batch", "1", "--nkeys", "web1,web2,db1", ONE, OBJECT, "Notify", "s", "batch")
    assert result.returncode == 0
    assert list(blocks(result.stdout).items())[0] == ("web1", (fleet.nkey, ["done"]))
    assert all("batch" in notes(fleet, name) for name in ("web1", "web2", "db1"))


def terminal(fleet, *words, **kwargs):
    """cbus on a terminal."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": fleet.session.address, "TERM": "xterm", "NO_COLOR": "",
                   **kwargs.pop("env", {})}
    return Terminal([CBUS, *words], environment, **kwargs)


def ask_to_notify(fleet, note, nkeys="web1,web2", **kwargs):
    asked = terminal(fleet, "invoke", ONE, OBJECT, "Notify", "s", note, "--nkeys", nkeys, **kwargs)
    asked.until("[y/N]")
    return asked


def test_a_terminal_is_asked_before_several_machines_are_changed(fleet):
    for keys in ("n\r", "\r", "\x04"):  # the last is the end of input
        asked = ask_to_notify(fleet, "refused")
        assert f"Call {TEST}.Notify on 2 machines (web1, web2)?" in asked.text
        asked.type(keys)
        assert asked.finish() == 1 and "nothing was called" in asked.text and "refused" not in notes(fleet)
    asked = ask_to_notify(fleet, "agreed")
    asked.type("y\r")
    assert asked.finish() == 0 and "agreed" in notes(fleet) and "agreed" in notes(fleet, "web2")


def test_the_question_reaches_the_terminal_wherever_the_output_goes(fleet):
    asked = ask_to_notify(fleet, "hidden", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked.type("n\r")
    assert asked.finish() == 1 and "hidden" not in notes(fleet)


def test_yes_plain_reads_and_one_machine_are_not_asked(fleet):
    for words in (["--yes", ONE, OBJECT, "Notify", "s", "yes", "--nkeys", "web1,web2"],
                  [ONE, OBJECT, "org.freedesktop.DBus.Peer.Ping", "--nkeys", "web1,web2"],
                  [ONE, OBJECT, "org.freedesktop.DBus.Properties.GetAll", "s", TEST, "--nkeys", "web1,web2"],
                  [ONE, OBJECT, "Notify", "s", "one", "--nkeys", "web1"]):
        running = terminal(fleet, "invoke", *words)
        assert running.finish() == 0 and "[y/N]" not in running.text
    # A method that is called Get is none that can change nothing, and a script is not asked.
    asked = terminal(fleet, "invoke", ONE, OBJECT, f"{TEST}.Get", "--nkeys", "web1,web2")
    asked.until("[y/N]")
    asked.type("n\r")
    assert asked.finish() == 1
    assert fleet.cbus("invoke", ONE, OBJECT, "Notify", "s", "script", "--nkeys", "web1,web2").returncode == 0


def test_a_terminal_has_colour_and_a_line_that_counts(fleet):
    running = terminal(fleet, "get", ONE, OBJECT, "Level")
    assert running.finish() == 1
    assert "\033[1mweb1" in running.text and "\033[31m" in running.text
    counted = re.findall(r"\r\033\[K(\d) of 4 answered", running.text)
    assert counted == ["0", "1", "2", "3"]
    # What is left on the screen is no such line.
    assert "answered" not in running.text[running.text.rindex("\r\033[K"):]
    assert "1 of 4 machines failed: gone1" in running.text


def test_colour_can_be_refused(fleet):
    plain = terminal(fleet, "get", ONE, OBJECT, "Level", env={"NO_COLOR": "1"})
    plain.finish()
    assert "\033[1m" not in plain.text and "\033[31m" not in plain.text and "of 4 answered" in plain.text
    dumb = terminal(fleet, "get", ONE, OBJECT, "Level", env={"TERM": "dumb"})
    dumb.finish()
    assert "\033" not in dumb.text and "answered" not in dumb.text


def test_the_line_that_counts_stays_out_of_files(fleet, tmp_path):
    with open(tmp_path / "out", "w") as out:
        running = terminal(fleet, "get", ONE, OBJECT, "Level", "--json", stdout=out)
        assert running.finish() == 1
    assert "of 4 answered" in running.text and f"gone1 {fleet.gone}: " in running.text
    assert len(json.loads((tmp_path / "out").read_text())["machines"]) == 4


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
