"""What cbus says when it is cut off in the middle: somebody reads it at three in the morning."""
import os
import pathlib
import signal
import subprocess
import time

from stack import wait_for
from test_cli import WEB, bus, roster  # noqa: F401  fixtures

MISSING = "/" + "x" * 3000


def rules(bus):  # noqa: F811
    return subprocess.run(["busctl", f"--address={bus.address}", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                           "org.freedesktop.DBus.Debug.Stats", "GetAllMatchRules"], capture_output=True, text=True, check=True).stdout


def test_a_wait_that_the_bus_ends_does_not_claim_to_have_waited(roster):  # noqa: F811
    process = roster.start("wait", "a.b", "/x", "a.b.Level", "7", "--nkeys", "web1", "--timeout", "600")
    # Its last rule: what it asks for behind it is the property.
    wait_for(lambda: "a.b" in rules(roster), "cbus wait to listen")
    roster.daemon.terminate()
    out, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "600 s" not in out + err
    assert "web1" in err and "ended early, since the bus closed the connection" in err


def test_run_whose_question_is_killed_says_so(roster):  # noqa: F811
    os.kill(roster.proxy.pid, signal.SIGSTOP)
    process = roster.start("run", "web1", "--", "true")
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 10
    while not children.read_text().split() and time.monotonic() < deadline:
        assert process.poll() is None
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 255
    assert err.startswith("cbus: ") and "signal 9" in err and "nothing was run" in err


def test_a_long_reason_is_cut_on_the_terminal_and_whole_in_json(roster):  # noqa: F811
    done = roster.cbus("get", "a.b", MISSING, "a.b.Level", "--nkeys", "web1")
    assert done.returncode == 1
    assert WEB in done.stderr and "…" in done.stderr and len(done.stderr) < 1500
    done = roster.cbus("get", "a.b", MISSING, "a.b.Level", "--nkeys", "web1", "--json")
    assert MISSING in done.stdout and len(done.stderr) < 1500
