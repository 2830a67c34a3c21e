"""authorized-keys, live: what an operator does to the file, and what becomes of the links."""
import os
import re
import signal
import subprocess
import time

import pytest
from gi.repository import GLib

from stack import Stack, split_error, wait_for

WITHIN = 1.0  # seconds for a link to go: the contract


@pytest.fixture(scope="module")
def running():
    with Stack() as stack:
        # A folder of its own, so that its mode can be played with.
        folder = stack.directory / "etc"
        folder.mkdir(mode=0o755)
        stack.good = stack.authorized.read_text()
        stack.agent.terminate()
        stack.authorized = folder / "authorized_keys"
        write(stack, stack.good)
        stack.start_agent()
        stack.wait_online()
        yield stack
        stack.stop()


@pytest.fixture
def stack(running):
    """Online under the operator's plain line, by a proxy that has nothing to be patient about."""
    os.chmod(running.authorized.parent, 0o755)
    write(running, running.good)
    # Twice: what is said after the first may be of a reading that was under way.
    for _ in range(2):
        said = len(running.agent.log())
        running.agent.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "1 authorized keys" in running.agent.log()[said:], "the plain line to be in force")
    running.proxy.terminate()
    running.start_proxy()
    running.wait_online()
    yield running
    running.check()


def write(stack, text, mode=0o600):
    """Replaces the file, as editors do."""
    fresh = stack.authorized.with_name("fresh")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.rename(stack.authorized)


def other_key(stack, name):
    file = stack.directory / name
    if not file.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file], check=True)
    return file.with_name(f"{name}.pub").read_text()


def hang(stack):
    """A call that is under way at the remote service."""
    call = stack.start("Hang")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
    return call


def assert_goes(stack, change, reason):
    """After CHANGE the link is gone in time, its call is answered, and the operator learns why."""
    call = hang(stack)
    change()
    began = time.monotonic()
    stack.client.wait(lambda: call, "the call to be answered", 10)
    took = time.monotonic() - began
    name, message = split_error(call[0])
    assert name == "org.freedesktop.DBus.Error.NoReply"
    assert reason in message and "web1" in message
    assert took < WITHIN, f"the link went only after {took:.2f} s"


def assert_unauthorized(stack):
    stack.wait_state("unauthorized", 10)
    assert "does not authorize" in stack.property("LastError")
    name, message = stack.error("Echo", "(v)", GLib.Variant("u", 1))
    assert name == "org.freedesktop.DBus.Error.AccessDenied"
    assert "web1" in message


def test_removed_key_loses_its_link_within_a_second(stack):
    assert_goes(stack, lambda: write(stack, other_key(stack, "other")), "not authorized any more")
    assert_unauthorized(stack)
    write(stack, other_key(stack, "other") + stack.good)
    stack.wait_online()


def test_file_is_read_when_it_is_edited_in_place(stack):
    def change():
        with open(stack.authorized, "r+", encoding="ascii") as file:
            file.truncate(0)
            file.write("# nobody\n")

    assert_goes(stack, change, "not authorized any more")


def test_missing_file_authorizes_nobody(stack):
    assert_goes(stack, stack.authorized.unlink, "not authorized any more")
    assert_unauthorized(stack)
    assert "No such file or directory: nobody is authorized" in stack.agent.log()


def test_changed_line_makes_the_link_anew(stack):
    log = len(stack.agent.log())
    assert_goes(stack, lambda: write(stack, stack.good.rstrip("\n") + " of the night shift\n"), "line was changed")
    stack.wait_online()
    # What the log says is in force, and no link of before is left then.
    wait_for(lambda: "authorized keys" in stack.agent.log()[log:], "the agent to say so")
    assert re.findall("line was changed|authorized keys", stack.agent.log()[log:]) == ["line was changed", "authorized keys"]


def test_unchanged_line_keeps_its_link_wherever_it_stands(stack):
    call = hang(stack)
    accepted = stack.agent.log().count("link accepted")
    write(stack, f"# the fleet\n{other_key(stack, 'other')}\n{stack.good}{other_key(stack, 'third')}")
    wait_for(lambda: "3 authorized keys" in stack.agent.log(), "the agent to read the file")
    write(stack, stack.good + other_key(stack, "other"))
    wait_for(lambda: "2 authorized keys" in stack.agent.log(), "the agent to read the file")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)
    assert not call
    assert stack.agent.log().count("link accepted") == accepted


def test_sighup_reads_the_file_when_only_a_folder_above_changed(stack):
    def change():
        os.chmod(stack.authorized.parent, 0o775)
        stack.agent.process.send_signal(signal.SIGHUP)

    assert_goes(stack, change, "not authorized any more")
    assert f"{stack.authorized.parent} can be written by others (mode 0775)" in stack.agent.log()
    assert_unauthorized(stack)
    os.chmod(stack.authorized.parent, 0o755)
    stack.agent.process.send_signal(signal.SIGHUP)
    stack.wait_online()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_that_others_can_write_authorizes_nobody(stack, mode):
    assert_goes(stack, lambda: stack.authorized.chmod(mode), "not authorized any more")
    assert f"{stack.authorized} can be written by others (mode {mode:04o})" in stack.agent.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_file_of_somebody_else_authorizes_nobody(stack):
    assert_goes(stack, lambda: os.chown(stack.authorized, 65534, -1), "not authorized any more")
    assert f"{stack.authorized} belongs to user 65534" in stack.agent.log()


def test_file_that_others_can_only_read_is_as_good(stack):
    call = hang(stack)
    log = len(stack.agent.log())
    write(stack, stack.good + other_key(stack, "other"), mode=0o644)
    wait_for(lambda: "authorized keys" in stack.agent.log()[log:], "the agent to read the file")
    assert stack.call("Echo", "(v)", GLib.Variant("u", 3)) == (3,)
    assert not call


def test_second_line_of_a_key_is_refused_loudly(stack):
    log = len(stack.agent.log())
    call = hang(stack)
    write(stack, stack.good + f"no-such-option {stack.good}")
    wait_for(lambda: "line refused" in stack.agent.log()[log:], "the line to be refused")
    assert f"{stack.authorized}:2: line refused" in stack.agent.log()[log:]
    assert stack.call("Echo", "(v)", GLib.Variant("u", 4)) == (4,)
    assert not call


def test_first_line_of_a_key_counts_even_when_it_is_refused(stack):
    log = len(stack.agent.log())
    assert_goes(stack, lambda: write(stack, f"no-such-option {stack.good}{stack.good}"), "not authorized any more")
    refused = stack.agent.log()[log:]
    assert f"{stack.authorized}:1: line refused" in refused and f"{stack.authorized}:2: line refused" in refused
    assert_unauthorized(stack)


@pytest.mark.parametrize("line", [
    'from="10.0.0.1" {}', "restrict {}", 'no-such="1" {}', 'command="true",{}', "cert-authority {}", "{}\0", "{}\x07",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA small-order"])
def test_line_that_can_not_be_honoured_authorizes_nobody(stack, line):
    log = len(stack.agent.log())
    assert_goes(stack, lambda: write(stack, line.format(stack.good.strip()) + "\n"), "not authorized any more")
    assert f"{stack.authorized}:1: line refused" in stack.agent.log()[log:]
