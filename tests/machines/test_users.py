"""user="NAME" on a booted machine: the machine's own D-Bus policy and polkit decide, and see whom they are told of."""
import json
import re
import subprocess

import pytest
from fleet import Fleet, public_key_line
from programs import wait_for

NAME = "ie.bmcgee.CBus"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
UNITS = "/org/freedesktop/systemd1/unit/"
DENIED = "2a346b86cda045a9886a09fd4d213c13"
OPENED = "9489776a77cc430aac8600cb358ee2d4"

# Members of "operators" may stop one unit; and polkit says whom it was asked about.
RULE = """polkit.addRule(function(action, subject) {
    if (action.id != "org.freedesktop.systemd1.manage-units")
        return polkit.Result.NOT_HANDLED;
    polkit.spawn(["logger", "-t", "polkit-asked", subject.user + " pid " + subject.pid + " groups " + subject.groups.join(",")]);
    if (subject.isInGroup("operators") && action.lookup("unit") == "theirs.service")
        return polkit.Result.YES;
    return polkit.Result.NOT_HANDLED;
});
"""


@pytest.fixture(scope="module")
def users():
    with Fleet(["users1"]) as fleet:
        machine = fleet.machines["users1"]
        machine.write("etc/polkit-1/rules.d/10-operators.rules", RULE)
        machine.run("groupadd", "operators")
        machine.run("useradd", "--no-create-home", "--groups", "operators", "alice")
        fleet.wait_online()
        yield fleet


def uid(fleet, user):
    return fleet.machines["users1"].run("id", "-u", user).strip()


def authorize(fleet, options):
    """Gives the operator's line OPTIONS."""
    fleet.machines["users1"].write("etc/cbus/authorized_keys", f"{options} {public_key_line(fleet.operator_key)}\n", 0o600)


def state(fleet):
    return fleet.busctl("get-property", NAME, f"/ie/bmcgee/CBus/{fleet.nkeys['users1']}", "ie.bmcgee.CBus1.Machine", "State",
                        check=False).stdout.strip()


def become(fleet, user):
    """The operator acts as USER from now on, on a link made since."""
    authorize(fleet, f'user="{user}"')

    def latest():
        text = fleet.machines["users1"].run("journalctl", "--no-pager", "-o", "json", "-n", "1", f"MESSAGE_ID={OPENED}")
        return json.loads(text)["CBUS_UID"] if text.strip() else None
    wait_for(lambda: latest() == uid(fleet, user), f"a channel of {user}")
    wait_for(lambda: state(fleet) == 's "online"', "users1 to be online")


@pytest.fixture
def alice(users):
    become(users, "alice")
    return users


@pytest.fixture
def sleeper(users):
    """theirs.service and precious.service run."""
    machine = users.machines["users1"]
    for unit in ("theirs.service", "precious.service"):
        machine.run("systemd-run", "-q", f"--unit={unit}", "/bin/sleep", "600")
    yield
    subprocess.run(machine.enter("systemctl", "stop", "theirs.service", "precious.service"), capture_output=True, check=False)


def stop(fleet, unit, *options):
    return fleet.busctl(*options, "call", NAME, fleet.path("users1"), MANAGER, "StopUnit", "ss", unit, "fail", check=False)


def is_active(fleet, unit):
    path = fleet.path("users1", below=UNITS + unit.replace(".", "_2e"))
    return fleet.busctl("get-property", NAME, path, UNIT, "ActiveState") == 's "active"\n'


def test_an_unprivileged_user_reads_properties(alice, sleeper):
    assert is_active(alice, "precious.service")
    assert alice.busctl("get-property", NAME, alice.path("users1"), MANAGER, "Version").startswith('s "')


def test_an_unprivileged_user_gets_the_machines_own_refusal(alice, sleeper):
    path = alice.path("users1")
    arguments = ("--dest", NAME, "--object-path", path, "--method", MANAGER + ".StopUnit", "precious.service", "fail")

    def error(*flags):
        done = subprocess.run(["gdbus", "call", "--session", *flags, *arguments], text=True, capture_output=True, check=False,
                              env=alice.environment)
        assert done.returncode != 0
        return done.stderr
    assert "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" in error()
    # Who allows a question is not asked one either: there is nobody at this machine.
    assert re.search(r"org\.freedesktop\.DBus\.Error\.(InteractiveAuthorizationRequired|AccessDenied)", error("--interactive"))
    assert is_active(alice, "precious.service")


def test_polkit_sees_uid_groups_and_pid(alice, sleeper):
    machine = alice.machines["users1"]
    assert stop(alice, "theirs.service").returncode == 0, "a rule for her group must count"
    wait_for(lambda: machine.run("systemctl", "show", "-P", "ActiveState", "theirs.service").strip() == "inactive", "the unit to stop")
    line = wait_for(lambda: re.findall(r"(\S+) pid (\d+) groups (\S+)", machine.run("journalctl", "--no-pager", "-t", "polkit-asked")),
                    "polkit to be asked")[-1]
    assert line[0] == "alice"
    assert set(line[2].split(",")) == {"alice", "operators"}
    # The process that polkit was told of is still there, and hers in every respect.
    status = machine.run("cat", f"/proc/{line[1]}/status")
    number = uid(alice, "alice")
    assert re.search(rf"^Uid:\t{number}\t{number}\t{number}\t{number}$", status, re.M)
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    assert re.search(r"^CapPrm:\t0+$", status, re.M)
    # It is the child that connected, not the connector or the network process.
    assert re.search(r"^Name:\tcbus-user$", status, re.M)
    parent = machine.run("cat", f"/proc/{re.search(r'^PPid:.(.*)$', status, re.M)[1]}/status")
    assert re.search(r"^Name:\tcbus-connector$", parent, re.M)
    groups = machine.run("id", "-G", "alice").split()
    assert sorted(re.search(r"^Groups:\t(.*)$", status, re.M)[1].split()) == sorted(groups)


def test_systemd_and_logind_see_the_process_that_connected(alice):
    """Asked by pid 0 they look at the caller's: systemd finds the agent's unit, logind nobody's session."""
    unit = alice.busctl("call", NAME, alice.path("users1"), MANAGER, "GetUnitByPID", "u", "0")
    assert unit.strip() == f'o "{alice.path("users1", below=UNITS + "cbus_2dagent_2eservice")}"'
    path = alice.path("users1", service="org.freedesktop.login1", below="/org/freedesktop/login1")
    done = subprocess.run(["gdbus", "call", "--session", "--dest", NAME, "--object-path", path, "--method",
                           "org.freedesktop.login1.Manager.GetSessionByPID", "0"], text=True, capture_output=True, check=False,
                          env=alice.environment)
    assert done.returncode != 0 and "org.freedesktop.login1.NoSessionForPID" in done.stderr, done.stderr


def test_a_denial_is_recorded_with_its_reason(users, sleeper):
    become(users, "alice")
    authorize(users, 'user="alice",policy="readonly"')
    wait_for(lambda: "denied" in (stop(users, "precious.service").stderr or "").lower(), "the policy to hold")
    # journald takes it in when it is scheduled, and no sooner.
    record = json.loads(wait_for(lambda: users.machines["users1"].run("journalctl", "--no-pager", "-o", "json", f"MESSAGE_ID={DENIED}",
                                                                      "CBUS_MEMBER=StopUnit").splitlines(), "the record")[0])
    assert record["CBUS_VERDICT"] == "denied"
    assert record["CBUS_USER"] == "alice"
    assert record["CBUS_UID"] == uid(users, "alice")
    assert record["CBUS_REASON"]
    assert record["PRIORITY"] == "4"
    assert is_active(users, "precious.service")


def test_root_needs_no_permission(users, sleeper):
    become(users, "root")
    assert stop(users, "precious.service").returncode == 0
    wait_for(lambda: users.machines["users1"].run("systemctl", "show", "-P", "ActiveState", "precious.service").strip() == "inactive",
             "the unit to stop")


def test_a_user_that_does_not_exist_refuses_the_line_loudly(users):
    become(users, "root")
    machine = users.machines["users1"]
    authorize(users, 'user="ghost"')
    wait_for(lambda: state(users) == 's "unauthorized"', "the operator to be told")
    log = machine.run("journalctl", "--no-pager", "-u", "cbus-agent", "PRIORITY=4")
    assert 'authorized_keys:1: line refused: there is no user "ghost" on this machine' in log
    # Once there is such a user, a reload is enough.
    machine.run("useradd", "--no-create-home", "ghost")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "cbus-agent")
    users.stop_proxy()
    users.start_proxy()  # one that has nothing to be patient about
    wait_for(lambda: state(users) == 's "online"', "the line to count")
