"""Booted machines for a whole test session: web1 and web2 on dbus-daemon, with agents inside and one proxy outside; and
target, which is driven from operators on the booted machine host and on the machine plain, which has no systemd."""
import pathlib
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

import unpacked  # noqa: E402
from fleet import Fleet  # noqa: E402
from host import USER, Host  # noqa: E402


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


@pytest.fixture(scope="session")
def hosts():
    with Fleet(["target", "host"], plain=["plain"]) as running:
        running.wait_online()
        target = running.machines["target"]
        target.write("etc/systemd/system/probe.service", "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n")
        target.run("systemctl", "daemon-reload")
        if unpacked.THERE:
            for name in ("target", "host"):
                unpacked.copy_into(running.machines[name].root)
        yield running


def operator(name, uid):
    @pytest.fixture(scope="session")
    def fixture(hosts):
        with Host(hosts, name, uid) as host:
            yield host
    return fixture


booted_root, booted_user = operator("host", 0), operator("host", USER)
plain_root, plain_user = operator("plain", 0), operator("plain", USER)


@pytest.fixture
def target(hosts):
    """Runs a command on the machine that is driven."""
    return hosts.machines["target"].run
