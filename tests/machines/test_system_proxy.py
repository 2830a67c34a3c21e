"""cbus-proxy on a machine's system bus: who may use it, and on whose account it asks other machines."""
import json
import shutil
import subprocess

import pytest
from fleet import TOP, Fleet, build_directory, public_key_line
from machine import run
from programs import wait_for

NAME = "ie.bmcgee.CBus"
MANAGER = "org.freedesktop.systemd1.Manager"
CALLED = "3e56d66ecb2841848a8e5338d9876c73"
OPENED = "9489776a77cc430aac8600cb358ee2d4"


@pytest.fixture(scope="module")
def hub():
    """hub1 has a proxy on its system bus, with a key of its own; far1 authorizes it."""
    with Fleet(["hub1", "far1"]) as fleet:
        machine = fleet.machines["hub1"]
        key = fleet.directory / "operator" / "hub"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        machine.run("groupadd", "--system", "cbus")
        machine.run("useradd", "--no-create-home", "--groups", "cbus", "alice")
        machine.run("useradd", "--no-create-home", "mallory")
        shutil.copy(build_directory() / "proxy" / "cbus-proxy", machine.root / "usr/local/bin/cbus-proxy")
        machine.write("etc/cbus/proxy_key", key.read_text(), 0o600)
        machine.write("etc/cbus/known_machines", "".join(f"{fleet.nkeys[n]} {n}\n" for n in fleet.names))
        policy = (TOP / "data" / "ie.bmcgee.CBus.conf").read_text()
        machine.write("usr/share/dbus-1/system.d/ie.bmcgee.CBus.conf", policy)
        machine.run("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")
        authorized = fleet.machines["far1"]
        authorized.write("etc/cbus/authorized_keys", f"{public_key_line(fleet.operator_key)}\n{public_key_line(key)}\n", 0o600)
        machine.run("systemd-run", "-q", "--unit=cbus-proxy", "--property=RuntimeDirectory=cbus", "--property=RuntimeDirectoryMode=0700",
                    "/usr/local/bin/cbus-proxy", "--nats", fleet.nats.url, "--key", "/etc/cbus/proxy_key", "--bus", "system",
                    "--known-machines", "/etc/cbus/known_machines", "--runtime-dir", "/run/cbus")

        def online():
            asked = as_user(fleet, "root", "get-property", NAME, f"/ie/bmcgee/CBus/{fleet.nkeys['far1']}", "ie.bmcgee.CBus1.Machine", "State")
            return asked.stdout.strip() == 's "online"'
        wait_for(online, "far1 to be online for hub1's proxy")
        yield fleet


def as_user(fleet, user, *arguments):
    return subprocess.run(fleet.machines["hub1"].enter("runuser", "-u", user, "--", "busctl", "--system", "--no-pager", *arguments),
                          text=True, capture_output=True, check=False)


def claims(fleet, message_id, **fields):
    text = fleet.machines["far1"].run("journalctl", "--no-pager", "-o", "json", f"MESSAGE_ID={message_id}",
                                      *(f"CBUS_{key.upper()}={value}" for key, value in fields.items()))
    return {json.loads(line)["CBUS_CLAIMED_UID"] for line in text.splitlines()}


def uid(fleet, user):
    return fleet.machines["hub1"].run("id", "-u", user).strip()


@pytest.mark.parametrize(("user", "unit"), [("root", "root-asks.service"), ("alice", "alice-asks.service")])
def test_root_and_the_group_may_and_the_audit_tells_them_apart(hub, user, unit):
    path = hub.path("far1", below=f"/org/freedesktop/systemd1/unit/{unit.replace('-', '_2d').replace('.', '_2e')}")
    done = as_user(hub, user, "call", NAME, path, "org.freedesktop.systemd1.Unit", "ResetFailed")
    assert "access" not in done.stderr.lower()
    remote = path.removeprefix(hub.path("far1", below=""))
    assert wait_for(lambda: claims(hub, CALLED, path=remote), f"far1's record of {user}'s call") == {uid(hub, user)}


def test_a_call_to_all_machines_is_on_its_callers_account(hub):
    done = as_user(hub, "alice", "call", NAME, "/ie/bmcgee/CBus", "ie.bmcgee.CBus1.Cluster", "Invoke", "sossavasu", "org.freedesktop.systemd1",
                   "/org/freedesktop/systemd1", MANAGER, "GetDefaultTarget", "0", "1", hub.nkeys["far1"], "0")
    assert "multi-user.target" in done.stdout, done.stderr
    assert wait_for(lambda: claims(hub, CALLED, member="GetDefaultTarget"), "far1's record") == {uid(hub, "alice")}


def test_others_may_not_even_look(hub):
    done = as_user(hub, "mallory", "get-property", NAME, "/ie/bmcgee/CBus", "ie.bmcgee.CBus1.Cluster", "NKey")
    assert done.returncode != 0
    assert "denied" in done.stderr.lower() or "not allowed" in done.stderr.lower()
    assert uid(hub, "mallory") not in claims(hub, OPENED)


def test_others_may_not_take_the_name(hub):
    for user in ("alice", "mallory"):
        done = as_user(hub, user, "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su", "ie.bmcgee.CBus", "0")
        assert done.returncode != 0


def test_the_runtime_directory_is_the_users_alone(hub):
    machine = hub.machines["hub1"]
    assert machine.run("stat", "-c", "%a %U", "/run/cbus").strip() == "700 root"
    done = subprocess.run(machine.enter("runuser", "-u", "alice", "--", "ls", "/run/cbus"), text=True, capture_output=True, check=False)
    assert done.returncode != 0
