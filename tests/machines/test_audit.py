"""The audit on a booted machine: its own journal answers who did what, before it happened and never with arguments."""
import json
import re

from fleet import TOP, public_key_line
from machine import run
from programs import wait_for

NAME = "ie.bmcgee.CBus"
SYSTEMD = "org.freedesktop.systemd1"
MANAGER = SYSTEMD + ".Manager"
UNIT = SYSTEMD + ".Unit"
OPENED = "9489776a77cc430aac8600cb358ee2d4"
CALLED = "3e56d66ecb2841848a8e5338d9876c73"


def records(fleet, name, message_id, **fields):
    """The journal's records of this kind that have FIELDS, oldest first."""
    text = fleet.machines[name].run("journalctl", "--no-pager", "-o", "json", f"MESSAGE_ID={message_id}",
                                    *(f"CBUS_{key.upper()}={value}" for key, value in fields.items()))
    return [json.loads(line) for line in text.splitlines()]


def first(fleet, name, message_id, **fields):
    return wait_for(lambda: records(fleet, name, message_id, **fields), f"a record with {fields}")[0]


def start_sleeper(fleet, name, unit):
    """A unit that runs until somebody stops it; its remote path."""
    fleet.machines[name].run("systemd-run", "-q", f"--unit={unit}", "/bin/sleep", "600")
    return "/org/freedesktop/systemd1/unit/" + unit.replace(".", "_2e")


def operator(fleet):
    return run(str(fleet.cbus), "nkey", "--public-key", public_key_line(fleet.operator_key)).strip()


def test_the_journal_says_who_stopped_this_unit(fleet):
    path = start_sleeper(fleet, "web1", "precious.service")
    fleet.busctl("call", NAME, fleet.path("web1", below=path), UNIT, "Stop", "s", "fail")
    record = first(fleet, "web1", CALLED, path=path, member="Stop")
    assert record["CBUS_PROXY"] == operator(fleet)
    assert record["CBUS_VERDICT"] == "allowed"
    assert record["CBUS_DESTINATION"] == SYSTEMD
    assert record["CBUS_INTERFACE"] == UNIT
    assert record["CBUS_UID"] == "0"
    assert record["CBUS_USER"] == "root"
    assert record["SYSLOG_FACILITY"] == "10"
    assert record["_SYSTEMD_UNIT"] == "cbus-agent.service"
    assert operator(fleet) in record["MESSAGE"]
    # The journal itself says which process wrote the record: the network process, which is no root.
    assert record["_UID"] != "0"
    assert not records(fleet, "web2", CALLED, path=path)


def test_every_field_of_a_record_is_documented(fleet):
    """In docs/audit.md and in the manual page, and with what docs/audit.md says that one can ask for."""
    path = start_sleeper(fleet, "web1", "asked.service")
    fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "StopUnit", "ss", "asked.service", "fail")
    first(fleet, "web1", CALLED, member="StopUnit")
    wait_for(lambda: "Stopped" in fleet.machines["web1"].run("journalctl", "--no-pager", "UNIT=asked.service"), "systemd to stop it")
    table = re.findall(r"^\| (`CBUS_.*?) \|", (TOP / "docs/audit.md").read_text(), re.MULTILINE)
    documented = {field for cell in table for field in re.findall(r"CBUS_[A-Z_]+", cell)}
    page = (TOP / "docs/cbus-agent.8").read_text()
    seen = {field for kind in (CALLED, OPENED) for record in records(fleet, "web1", kind) for field in record if field.startswith("CBUS_")}
    assert len(seen) >= 10 and seen <= documented
    assert all(field in page for field in seen)
    # "Who stopped this unit?", with the very questions of the document.
    block = (TOP / "docs/audit.md").read_text().split("## Who stopped this unit?", 1)[1].split("\n\n")[1]
    answers = []
    for line in block.splitlines():
        words = line.replace("nginx_2eservice", "asked_2eservice").replace("nginx.service", "asked.service").split()
        assert words[0] == "journalctl"
        answers.append(fleet.machines["web1"].run("journalctl", "--no-pager", *words[1:]))
    assert operator(fleet) in answers[0] and "StopUnit" in answers[0]
    assert path not in answers[1]  # the manager was told, and not the unit's own object
    assert operator(fleet) in answers[2] and "Stopped" in answers[2]


def test_the_record_is_older_than_what_it_records(fleet):
    path = start_sleeper(fleet, "web1", "older.service")
    fleet.busctl("call", NAME, fleet.path("web1", below=path), UNIT, "Stop", "s", "fail")
    record = first(fleet, "web1", CALLED, path=path, member="Stop")

    def stopping():
        text = fleet.machines["web1"].run("journalctl", "--no-pager", "-o", "json", "UNIT=older.service", "_PID=1")
        return [r for r in map(json.loads, text.splitlines()) if r["MESSAGE"].startswith("Stopping")]
    systemd = wait_for(stopping, "systemd to say that it stops the unit")[0]
    assert int(record["_SOURCE_REALTIME_TIMESTAMP"] if "_SOURCE_REALTIME_TIMESTAMP" in record
               else record["__REALTIME_TIMESTAMP"]) <= int(systemd["__REALTIME_TIMESTAMP"])


def test_arguments_are_not_recorded(fleet):
    fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "GetUnit", "s", "secret-argument.service", check=False)
    first(fleet, "web1", CALLED, member="GetUnit")
    for record in records(fleet, "web1", CALLED):
        assert "secret-argument" not in json.dumps(record)


def test_each_channel_is_recorded_and_its_calls_name_it(fleet):
    fleet.busctl("call", NAME, fleet.path("web1"), MANAGER, "GetDefaultTarget")
    call = first(fleet, "web1", CALLED, member="GetDefaultTarget")
    opened = first(fleet, "web1", OPENED, link=call["CBUS_LINK"], channel=call["CBUS_CHANNEL"])
    assert opened["CBUS_PROXY"] == call["CBUS_PROXY"] == operator(fleet)
    assert opened["CBUS_UID"] == "0"


def test_plain_reads_leave_no_record(fleet):
    path = fleet.path("web2", below="/org/freedesktop/systemd1/unit/dbus_2eservice")
    fleet.busctl("get-property", NAME, path, UNIT, "Id")
    fleet.busctl("call", NAME, path, "org.freedesktop.DBus.Properties", "GetAll", "s", UNIT)
    fleet.busctl("introspect", NAME, path)
    fleet.busctl("call", NAME, path, "org.freedesktop.DBus.Peer", "Ping")
    # What comes later is there: so is all that came before.
    fleet.busctl("call", NAME, path, UNIT, "ResetFailed")
    first(fleet, "web2", CALLED, member="ResetFailed")
    members = {r["CBUS_MEMBER"] for r in records(fleet, "web2", CALLED)}
    assert not members & {"Get", "GetAll", "Introspect", "Ping"}


def test_a_property_that_is_set_is_recorded(fleet):
    level = fleet.busctl("get-property", NAME, fleet.path("web2"), MANAGER, "LogLevel").split('"')[1]
    fleet.busctl("set-property", NAME, fleet.path("web2"), MANAGER, "LogLevel", "s", level)
    record = first(fleet, "web2", CALLED, member="Set")
    assert record["CBUS_INTERFACE"] == "org.freedesktop.DBus.Properties"
    assert record["CBUS_PATH"] == "/org/freedesktop/systemd1"


def test_repeats_are_counted_and_none_is_missing(fleet):
    def counted():
        return sum(int(r.get("CBUS_COUNT", 1)) for r in records(fleet, "web2", CALLED, member="ListUnitsByNames"))
    before, calls = counted(), 40
    for _ in range(calls):
        fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "ListUnitsByNames", "as", "1", "dbus.service")
    wait_for(lambda: counted() == before + calls, f"{calls} calls to be accounted for")
    assert len(records(fleet, "web2", CALLED, member="ListUnitsByNames")) < calls


def test_a_journal_that_hangs_denies_and_blocks_nobody(fleet):
    machine = fleet.machines["web2"]
    journald = machine.run("systemctl", "show", "-P", "MainPID", "systemd-journald").strip()
    machine.run("kill", "-STOP", journald)

    def refused(number):
        path = fleet.path("web2", below=f"/filler/{number}")
        return "audit-failure" in fleet.busctl("call", NAME, path, "com.example.Filler", "Fill", check=False).stderr
    try:
        assert any(refused(number) for number in range(1000)), "the journal's queue was never full"
        # The loop goes on: plain reads are answered at once.
        assert fleet.busctl("--timeout=2", "get-property", NAME, fleet.path("web2"), MANAGER, "Version").startswith("s ")
    finally:
        machine.run("kill", "-CONT", journald)
    wait_for(lambda: fleet.busctl("call", NAME, fleet.path("web2"), MANAGER, "GetDefaultTarget", check=False).returncode == 0,
             "calls to be recorded again")
    assert any("CBUS_AUDIT_LOST" in r for r in records(fleet, "web2", CALLED))
