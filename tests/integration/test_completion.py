"""Completion in bash, zsh and fish: of verbs, options, machines, and of what the machines themselves have."""
import os
import re
import signal
import subprocess
import time

import pytest

from fleet import CBUS, Fleet
from shells import Fish, Shell
from stack import BUILD, wait_for

ONE = "com.example.One"
OBJECT = "/com/example/Test"
TEST = "com.example.Test"


@pytest.fixture(scope="module")
def fleet():
    with Fleet() as running:
        tagged = running.known_machines.read_text().replace(" web1\n", " web1 web,old\n").replace(" web2\n", " web2 web\n")
        running.known_machines.write_text(tagged)
        wait_for(lambda: running.web2.property("Tags") == ["web"], "the tags")
        yield running
        running.stop()


def environment(fleet):
    # The programs that the shells may run: ours before any other.
    return {**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": fleet.session.address, "PATH": f"{BUILD / 'cli'}:{os.environ['PATH']}"}


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def shell(request, fleet, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "key.pub").write_text("")
    # Where the shells look for hosts.
    (directory / ".ssh").mkdir()
    (directory / ".ssh/known_hosts").write_text("bastion.example ssh-ed25519 AAAA\n")
    (directory / "hosts").write_text("192.0.2.1 bastion.example\n")
    shown = {**environment(fleet), "HOSTFILE": str(directory / "hosts")}
    running = Fish(directory, shown) if request.param == "fish" else Shell(request.param, directory, shown)
    yield running
    running.close()


def test_verbs(shell):
    verbs = set(re.findall(r"^  ([a-z]+) ", subprocess.run([CBUS, "--help"], check=True, capture_output=True, text=True).stdout,
                           re.MULTILINE))
    assert len(verbs) >= 9
    assert shell.offers("cbus ") >= verbs
    assert shell.offers("cbus m") == {"machines", "monitor"}
    assert shell.completed("cbus mac") == ["machines"]
    assert "complete" not in shell.offers("cbus ")


def test_options(shell):
    assert shell.offers("cbus get --") == {"--nkeys", "--on", "--unpinned", "--timeout", "--ordered", "--batch", "--fail-fast",
                                           "--json", "--bus", "--help"}
    assert shell.completed("cbus wait --an") == ["wait", "--any"]
    assert shell.completed("cbus machines --bus=sy") in (["machines", "--bus=system"], ["machines", "system"])
    assert shell.offers("cbus machines --bus ") == {"session", "system"}
    # Their values are nobody's to guess.
    assert shell.offers("cbus get --timeout ") == set()


def test_machine_names(shell, fleet):
    assert shell.offers("cbus run ") == {"web1", "web2", "db1", "gone1", fleet.stray.nkey}
    assert shell.completed("cbus run d") == ["run", "db1"]
    assert shell.completed(f"cbus run {fleet.stray.nkey[:9]}") == ["run", fleet.stray.nkey]
    assert shell.offers("cbus get --nkeys w") == {"web1", "web2"}
    assert shell.completed("cbus get --nkeys web1,d") == ["get", "--nkeys", "web1,db1"]
    assert shell.completed("cbus get --nkeys=web1,d") == ["get", "--nkeys=web1,db1"]
    # A claimed name selects nothing, so it is not offered.
    assert "host-stray" not in shell.offers("cbus run h")
    assert shell.offers("cbus trust ") == {fleet.stray.nkey}


def test_tags(shell):
    assert shell.completed("cbus get --on @ol") == ["get", "--on", "@old"]
    assert shell.completed("cbus get --nkeys db1,@ol") == ["get", "--nkeys", "db1,@old"]
    assert len(shell.offers("cbus get --on ")) == 2


def test_services(shell):
    assert {ONE, "com.example.Lazy", "org.freedesktop.DBus"} <= shell.offers("cbus get ")
    assert shell.completed("cbus invoke org.freedesktop.D") == ["invoke", "org.freedesktop.DBus"]
    assert shell.completed("cbus wait --nkeys web2 org.freedesktop.D")[-1] == "org.freedesktop.DBus"
    # Two is a name on web1 alone.
    assert shell.offers("cbus get --nkeys web2 com.example.T") == set()
    assert shell.completed("cbus get --nkeys web1 com.example.T")[-1] == "com.example.Two"
    assert shell.offers("cbus get --nkeys gone1 ") == set()


def test_paths(shell):
    below = {OBJECT, f"{OBJECT}/child"}
    # The levels in which there is no choice are passed at once.
    assert below <= shell.offers(f"cbus get {ONE} ") and "/com" not in shell.offers(f"cbus get {ONE} ")
    assert shell.completed(f"cbus get {ONE} /c") == ["get", ONE, OBJECT]
    assert shell.offers(f"cbus get {ONE} {OBJECT}/") == {f"{OBJECT}/child", f"{OBJECT}/twins"}
    assert shell.offers(f"cbus get {ONE} {OBJECT}/c") == {f"{OBJECT}/child", f"{OBJECT}/child/deeper"}
    assert shell.completed(f"cbus get {ONE} {OBJECT}/child/") == ["get", ONE, f"{OBJECT}/child/deeper"]
    assert shell.offers(f"cbus get {ONE} /no") == set()


def test_members(shell):
    assert "Level" in shell.offers(f"cbus get {ONE} {OBJECT} ") and "Echo" not in shell.offers(f"cbus get {ONE} {OBJECT} ")
    assert shell.completed(f"cbus get {ONE} {OBJECT} L") == ["get", ONE, OBJECT, "Level"]
    assert shell.completed(f"cbus wait {ONE} {OBJECT} {TEST}.L") == ["wait", ONE, OBJECT, f"{TEST}.Level"]
    offered = shell.offers(f"cbus invoke {ONE} {OBJECT} ")
    assert {"Echo", "Child", "Ping"} <= offered and "Level" not in offered
    assert shell.completed(f"cbus invoke {ONE} {OBJECT} Ec") == ["invoke", ONE, OBJECT, "Echo"]
    # What two interfaces have is offered with each, and what one has alone.
    assert shell.offers(f"cbus get {ONE} {OBJECT}/twins ") == {"com.example.Left.Level", "com.example.Right.Level", "Only"}
    assert shell.completed(f"cbus invoke {ONE} {OBJECT} Paths s") in (["invoke", ONE, OBJECT, "Paths", "soa{ov}"],
                                                                      ["invoke", ONE, OBJECT, "Paths", "s"])
    assert shell.completed(f"cbus invoke {ONE} {OBJECT} Fail ") == ["invoke", ONE, OBJECT, "Fail", "s"]


def test_files_hosts_and_commands_are_the_shells(shell):
    assert shell.completed("cbus nkey --public-key-file ke")[-1] == "key.pub"
    assert shell.completed("cbus nkey --public-key-file=ke")[-1] == "--public-key-file=key.pub"
    assert "bastion.example" in shell.offers("cbus keyscan basti")
    assert shell.offers("cbus run web1 ") == {"--"}
    assert "systemctl" in shell.offers("cbus run web1 -- systemc")
    # Behind the command, its own words: none of ours.
    assert not shell.offers("cbus run web1 -- cat --nk")


def complete(fleet, *words, **kwargs):
    return subprocess.run([CBUS, "complete", "--", *words], capture_output=True, text=True, check=True, timeout=10,
                          env=environment(fleet), **kwargs).stdout.splitlines()


def options_of(verb):
    text = subprocess.run([CBUS, verb, "--help"], check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
    return set(re.findall(r"^  (?:-\w, )?(--[a-z][a-z-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("verb", ["get", "invoke", "keyscan", "machines", "monitor", "nkey", "run", "trust", "wait"])
def test_the_options_offered_are_those_that_the_verb_takes(fleet, verb):
    assert {line.split("\t")[0] for line in complete(fleet, verb, "--")} == options_of(verb)


def test_a_machine_that_hangs_costs_two_seconds(fleet):
    fleet.web2.agent.process.send_signal(signal.SIGSTOP)
    try:
        before = time.monotonic()
        # Nobody asked for this object before, so no cache of the proxy's knows it.
        assert complete(fleet, "get", "--nkeys", "web2", ONE, "/unheard/of", "") == []
        assert 1.9 < time.monotonic() - before < 4
        # Others answer for it.
        assert complete(fleet, "get", "--nkeys", "web2,web1", ONE, OBJECT, "Le") == [f"Level\t{TEST}"]
        assert time.monotonic() - before < 6
    finally:
        fleet.web2.agent.process.send_signal(signal.SIGCONT)
    fleet.wait_machine(fleet.web2, True)


def test_a_proxy_that_hangs_does_not_hang_the_prompt(fleet):
    fleet.proxy.process.send_signal(signal.SIGSTOP)
    try:
        before = time.monotonic()
        assert complete(fleet, "run", "w") == []
        assert time.monotonic() - before < 4
    finally:
        fleet.proxy.process.send_signal(signal.SIGCONT)


def test_without_a_proxy_verbs_and_options_are_still_there(fleet):
    bus = fleet.remote.address
    assert complete(fleet, "mach") == ["machines\tlist the machines that the proxy knows"]
    assert complete(fleet, "get", "--bus", bus, "--ord") == ["--ordered\tprint in a stable order"]
    assert complete(fleet, "get", "--bus", bus, "") == []


def test_half_a_command_line_is_no_error(fleet):
    for words in (["get", "--nkeys", "nobody", ""], ["nonsense", ""], ["get", "not a name", ""], ["get", ONE, "no path", ""],
                  ["get", "--nkeys=", "--on", "@none", ""], ["invoke", ONE, OBJECT, "no-member", ""], ["run", "--", "", "--", ""]):
        assert complete(fleet, *words) in ([], [":command"])
