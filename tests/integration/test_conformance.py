"""Tests that others wrote, run against a portal in front of a private dbus-daemon: the reference D-Bus test programs
(dbus-tests) and python-dbusmock's own.

conformance.md lists what can not apply, each with its reason; all else has to pass.
"""
import os
import pathlib
import subprocess
import sys

import pytest

PROGRAMS = pathlib.Path("/usr/lib/dbus-1.0/debug-build/libexec/installed-tests/dbus")
NAMES = ("test-header-fields", "test-dbus-daemon-eavesdrop", "test-monitor", "test-dbus-daemon")
MOCKS = pathlib.Path("/usr/share/doc/python3-dbusmock/examples")
MOCK_TESTS = ("test_api.py:TestAPI", "test_api.py:TestSubclass", "test_bluez5.py", "test_gnome_screensaver.py",
              "test_iio_sensors_proxy.py", "test_logind.py", "test_low_memory_monitor.py", "test_networkmanager.py",
              "test_notification_daemon.py", "test_ofono.py", "test_polkitd.py", "test_power_profiles_daemon.py",
              "test_systemd.py", "test_timedated.py", "test_upower.py", "test_urfkill.py")


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


@pytest.mark.skipif(not MOCKS.exists(), reason="python3-dbusmock's documentation is not installed")
@pytest.mark.parametrize("test", MOCK_TESTS)
def test_mocks_behind_a_portal(stack, test):
    runner = pathlib.Path(__file__).with_name("dbusmock_portal.py")
    done = subprocess.run([sys.executable, "-B", runner, stack.remote.address, stack.property("BusAddress"), str(MOCKS / test)],
                          capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
