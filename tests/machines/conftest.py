"""Booted machines for a whole test session: web1 and web2 on dbus-daemon, with agents inside and one proxy outside."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from fleet import Fleet  # noqa: E402


@pytest.fixture(scope="session")
def fleet():
    with Fleet(["web1", "web2"]) as running:
        running.wait_online()
        yield running


@pytest.fixture(scope="module")
def broker_fleet():
    with Fleet(["broker1"], bus="dbus-broker") as running:
        running.wait_online()
        yield running
