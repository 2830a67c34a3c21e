"""`cbus run` lets nothing of a command reach the machine that it runs on: neither when that is booted with systemd nor when it
is not, neither as root nor as a user."""
import subprocess

import pytest
from programs import wait_for


@pytest.fixture(params=["booted_root", "booted_user", "plain_root", "plain_user"])
def host(request):
    """The host, which is after the test as it was before."""
    operator = request.getfixturevalue(request.param)
    before = operator.state()
    yield operator
    assert operator.state() == before


def test_run_restarts_a_service_of_the_machine(target, host):
    before = target("systemctl", "show", "systemd-journald", "-p", "InvocationID")
    done = host.run("systemctl", "restart", "systemd-journald")
    assert done.returncode == 0, done.stderr
    assert target("systemctl", "show", "systemd-journald", "-p", "InvocationID") != before


def test_run_lists_and_shows_units_of_the_machine(target, host):
    assert "probe.service" in host.run("systemctl", "--no-pager", "list-unit-files").stdout
    mine = host.run("systemctl", "--no-pager", "--plain", "--no-legend", "list-units", "--type=service").stdout
    its = target("systemctl", "--no-pager", "--plain", "--no-legend", "list-units", "--type=service")
    assert {line.split()[0] for line in mine.splitlines()} == {line.split()[0] for line in its.splitlines()}
    status = host.run("systemctl", "--no-pager", "status", "dbus.service")
    assert "Active: active" in status.stdout
    assert status.returncode == 0


def test_run_enables_on_the_machine_alone(target, host):
    assert host.run("systemctl", "is-enabled", "probe").stdout == "disabled\n"
    assert host.run("systemctl", "enable", "--now", "probe").returncode == 0
    try:
        assert target("systemctl", "is-enabled", "probe") == "enabled\n"
        assert target("systemctl", "is-active", "probe") == "active\n"
        assert host.run("systemctl", "is-active", "probe").stdout == "active\n"
        assert not (host.machine.root / "etc/systemd/system/multi-user.target.wants/probe.service").is_symlink()
    finally:
        host.run("systemctl", "disable", "--now", "probe")
    assert host.run("systemctl", "is-active", "probe").returncode == 3


def test_run_neither_shows_nor_edits_files_of_the_host(host):
    shown = host.run("systemctl", "--no-pager", "cat", "systemd-journald")
    assert "ExecStart" not in shown.stdout
    assert host.run("sh", "-c", "EDITOR='sh -c \"echo [Unit] >$1\" --' SYSTEMD_EDITOR=true systemctl edit --force probe2").returncode != 0
    assert not (host.machine.root / "etc/systemd/system/probe2.service.d").exists()


def test_run_does_not_reach_user_managers(host):
    done = host.run("systemctl", "--user", "list-units")
    assert done.returncode != 0
    assert "connect to bus" in done.stderr


@pytest.mark.parametrize("command", ["reboot", "poweroff", "halt"])
def test_run_does_not_end_the_host_by_force(host, command):
    assert host.run("systemctl", command, "-ff").returncode != 0
    assert host.run(command, "-ff").returncode != 0


@pytest.mark.parametrize("host", ["booted_root", "booted_user"], indirect=True)
@pytest.mark.parametrize("command", ["q", "u"])
def test_run_sends_no_signal_to_the_hosts_systemd(host, command):
    """Where no bus answers it, telinit has signals to process 1 left."""
    def told():
        said = host.machine.run("journalctl", "--no-pager", "-o", "cat", "_PID=1")
        return said.count("Reloading.") + said.count("Reexecuting.")
    before = told()
    assert host.run("env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "telinit", command).returncode != 0
    host.machine.run("systemctl", "is-system-running")  # an answer, which comes after what a signal would have begun
    assert told() == before


def test_run_starts_and_stops_on_the_machine_alone(target, host):
    assert host.run("systemctl", "start", "probe").returncode == 0
    assert target("systemctl", "is-active", "probe") == "active\n"
    assert host.run("systemctl", "stop", "probe").returncode == 0
    assert host.run("systemctl", "is-active", "probe").stdout == "inactive\n"


def test_run_shows_the_machines_host_name_and_session(target, host):
    assert host.run("hostname").stdout == "target\n"
    assert host.run("hostnamectl", "hostname").stdout == "target\n"
    assert host.run("timedatectl", "show", "-p", "Timezone").stdout.startswith("Timezone=")
    assert host.run("loginctl", "--no-legend", "list-seats").stdout == target("loginctl", "--no-legend", "list-seats")
    assert "System Locale" in host.run("localectl", "status").stdout
    assert host.run("systemd-run", "--wait", "--quiet", "sh", "-c", "exit 5").returncode == 5


@pytest.mark.parametrize("command", ["journalctl", "networkctl"])
def test_run_warns_once_of_what_is_of_the_host(host, command):
    assert host.run(command, "--no-pager").stderr.count("cbus: warning: ") == 1


def test_run_powers_the_machine_off_and_not_the_host(hosts, host):
    machine = hosts.machines["target"]
    everybody = ("/usr/local/bin/cbus", "machines", "--wait", str(len(hosts.names)), "--timeout", "60")
    host.call(*everybody, check=True)
    said = host.run("systemctl", "poweroff").stderr  # its answer may be lost: the agent stops like everything else
    wait_for(lambda: machine.process.poll() is not None, f"the machine to be off; systemctl said {said!r}", 60)
    machine.boot()
    host.call(*everybody, check=True)


def test_without_run_a_host_without_systemd_is_changed_and_ended(plain_root):
    """What the tests above would see if nothing was covered. The last one: it ends the host."""
    before = plain_root.state()
    plain_root.machine.write("etc/systemd/system/control.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=default.target\n")
    plain_root.call("systemctl", "enable", "control", check=True)
    assert plain_root.state() != before
    process = plain_root.machine.process
    subprocess.run(plain_root.command("reboot", "-ff"), check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    wait_for(lambda: process.poll() is not None, "the host to be ended")
