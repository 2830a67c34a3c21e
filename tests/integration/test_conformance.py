"""The reference D-Bus test programs that Debian ships as dbus-tests, run against a portal in front of a private dbus-daemon.

conformance.md lists the cases that can not apply, each with its reason; all others have to pass.
"""
import os
import pathlib
import subprocess

import pytest

PROGRAMS = pathlib.Path("/usr/lib/dbus-1.0/debug-build/libexec/installed-tests/dbus")
NAMES = ("test-header-fields", "test-dbus-daemon-eavesdrop", "test-monitor", "test-dbus-daemon")


def inapplicable():
    table = pathlib.Path(__file__).with_name("conformance.md").read_text().splitlines()
    return {tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table if line.startswith("| test-")}


def cases():
    """Every (program, case) there is; nothing without dbus-tests."""
    for name in NAMES:
        if (PROGRAMS / name).exists():
            listed = subprocess.run([PROGRAMS / name, "-l"], capture_output=True, text=True, timeout=30, check=True,
                                    stdin=subprocess.DEVNULL)
            yield from ((name, line) for line in listed.stdout.splitlines() if line.startswith("/"))


CASES = list(cases())


@pytest.mark.skipif(not CASES, reason="dbus-tests is not installed")
def test_the_list_names_cases_that_exist():
    assert inapplicable() <= set(CASES)


@pytest.mark.parametrize("program, case", [c for c in CASES if c not in inapplicable()], ids="".join)
def test_through_a_portal(stack, program, case):
    done = subprocess.run([PROGRAMS / program, "--tap", "-p", case], capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, "DBUS_TEST_DAEMON_ADDRESS": stack.property("BusAddress")})
    assert done.returncode == 0, done.stderr
    assert "\nok 1 " in done.stdout
    assert "# SKIP" not in done.stdout
