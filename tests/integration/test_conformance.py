"""Tests that others wrote, run against a portal in front of a private dbus-daemon: the reference D-Bus test programs
(dbus-tests) and python-dbusmock's own.

conformance.md lists what can not apply, each with its reason; all else has to be there, to run and to pass.
"""
import ast
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
import unpacked

PROGRAMS = pathlib.Path("/usr/lib/dbus-1.0/debug-build/libexec/installed-tests/dbus")
NAMES = ("test-header-fields", "test-dbus-daemon-eavesdrop", "test-monitor", "test-dbus-daemon")
MOCKS = pathlib.Path("/usr/share/doc/python3-dbusmock/examples")
LIST = pathlib.Path(__file__).with_name("conformance.md").read_text()

# Clients of logind and timedated want to see that systemd runs here; a mount namespace shows them what they look for.
AS_IF_BOOTED = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs run /run && mkdir -p /run/systemd/system && exec "$@"', "sh"]


def run(directory, argv, timeout, **environment):
    """(status, output). Into a file, since what a failing test leaves running holds its output open; that ends too."""
    with open(directory / "output", "w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
                              env={**unpacked.environment(), **environment}) as process:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = f"nothing within {timeout} s"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        output.seek(0)
        return status, output.read()


# --- dbus-tests -----------------------------------------------------------------------------------------------------


def inapplicable():
    return {tuple(cell.strip() for cell in line.split("|")[1:3]) for line in LIST.splitlines() if line.startswith("| test-")}


def cases():
    """Every (program, case) there is; nothing without dbus-tests."""
    for name in NAMES:
        if (PROGRAMS / name).exists():
            listed = subprocess.run([PROGRAMS / name, "-l"], capture_output=True, text=True, timeout=30, check=True,
                                    stdin=subprocess.DEVNULL)
            yield from ((name, line) for line in listed.stdout.splitlines() if line.startswith("/"))


CASES = list(cases())
needs_programs = pytest.mark.skipif(not CASES, reason="dbus-tests is not installed")


def passes(stack, directory, program, case):
    """(whether it ran and passed, what it said)"""
    status, said = run(directory, [PROGRAMS / program, "--tap", "-p", case], 60,
                       DBUS_TEST_DAEMON_ADDRESS=stack.property("BusAddress"))
    return status == 0 and "\nok 1 " in said and "# SKIP" not in said, f"{status}: {said}"


@needs_programs
def test_the_list_names_every_program_and_cases_that_exist():
    assert inapplicable() <= set(CASES)
    named = set(re.findall(r"`(test-[a-z0-9-]+(?:\.sh)?)`", LIST))
    assert named == {file.name for file in PROGRAMS.iterdir() if file.name.startswith("test-")}


@pytest.mark.parametrize("program, case", [c for c in CASES if c not in inapplicable()], ids="".join)
def test_through_a_portal(stack, tmp_path, program, case):
    passed, said = passes(stack, tmp_path, program, case)
    assert passed, said


@needs_programs
def test_what_the_list_leaves_out_would_not_pass(stack, tmp_path):
    assert [c for c in sorted(inapplicable()) if passes(stack, tmp_path, *c)[0]] == []


# --- python-dbusmock ------------------------------------------------------------------------------------------------


def mock_tests():
    """Every file, and of test_api.py every class, that has tests."""
    for file in sorted(MOCKS.glob("test_*.py")):
        if file.name == "test_api.py":
            tree = ast.parse(file.read_text())
            yield from (f"{file.name}:{node.name}" for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test"))
        else:
            yield file.name


MOCK_TESTS = list(mock_tests())
NOT_RUN = set(re.findall(r"^- `(test_[\w.:]+)`", LIST, re.MULTILINE))


@pytest.mark.skipif(not MOCK_TESTS, reason="python3-dbusmock's documentation is not installed")
def test_the_list_names_tests_of_mocks_that_exist():
    assert NOT_RUN < set(MOCK_TESTS)


@pytest.mark.skipif(not unpacked.THERE, reason=unpacked.REASON)
@pytest.mark.parametrize("test", [t for t in MOCK_TESTS if t not in NOT_RUN])
def test_mocks_behind_a_portal(stack, tmp_path, test):
    runner = pathlib.Path(__file__).with_name("dbusmock_portal.py")
    booted = os.path.exists("/run/systemd/system") or os.geteuid() != 0
    status, said = run(tmp_path, [*([] if booted else AS_IF_BOOTED), sys.executable, "-B", runner, stack.remote.address,
                                  stack.property("BusAddress"), str(MOCKS / test)], 120)
    assert status == 0, said[-6000:]
    # The clients of logind and timedated leave themselves out where systemd does not run, and only root can show them one.
    left_out = [case for case in re.findall(r"^(.*) \.\.\. skipped ", said, re.MULTILINE) if f"| {test} | {case} |" not in LIST]
    assert not left_out or (os.geteuid() != 0 and not os.path.exists("/run/systemd/system")), left_out
