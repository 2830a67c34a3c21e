"""Which of the agent's processes may do what, seen from outside a booted machine."""
import os
import pathlib

import pytest
from cryptography.hazmat.primitives import serialization
from machine import children
from programs import wait_for

CHUNK = 1 << 20


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def memory_has(pid, needle):
    """Whether NEEDLE stands in what process PID can read of its own memory."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            if mode[0] != "r" or "[v" in line:
                continue
            start, end = (int(number, 16) for number in span.split("-"))
            tail = b""
            for at in range(start, end, CHUNK):
                memory.seek(at)
                try:
                    piece = memory.read(min(CHUNK, end - at))
                except OSError:
                    break
                if needle in tail + piece:
                    return True
                tail = piece[-len(needle):]
    return False


def internet_sockets(pid):
    """Inodes of TCP and UDP sockets that PID holds."""
    held = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            held.add(target[8:-1])
    all_of_them = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        rows = pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        all_of_them |= {row.split()[9] for row in rows}
    return held & all_of_them


@pytest.fixture(scope="module", params=["web1", "web2"])
def agent(request, fleet):
    """(pid of the network process, pid of the connector, the host key's seed)."""
    machine = fleet.machines[request.param]
    inside = machine.run("systemctl", "show", "-P", "MainPID", "cbus-agent.service").strip()
    network = next(pid for pid in children(machine.init) if status(pid)["NSpid"][-1] == inside)
    connector = wait_for(lambda: children(network), "the connector")[0]
    key = serialization.load_ssh_private_key((machine.root / "etc/ssh/ssh_host_ed25519_key").read_bytes(), None)
    raw = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return network, connector, key.private_bytes(*raw)


def test_network_process_is_nobody(agent):
    network, _connector, _seed = agent
    facts = status(network)
    assert "0" not in facts["Uid"] and "0" not in facts["Gid"]
    assert len(set(facts["Uid"])) == 1 and len(set(facts["Gid"])) == 1
    assert facts["Groups"] == []
    for sort in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[sort][0], 16) == 0, sort
    assert facts["NoNewPrivs"] == ["1"]
    # What is not dumpable belongs to root in /proc, and its own user can not trace it.
    assert pathlib.Path(f"/proc/{network}/mem").stat().st_uid == 0


def test_connector_can_become_users_and_little_more(agent):
    """The installed unit leaves it what it needs to be the callers' users, and takes the rest for good."""
    network, connector, _seed = agent
    needed = sum(1 << capability for capability in (5, 6, 7, 8))  # KILL, SETGID, SETUID, SETPCAP
    facts = status(connector)
    for sort in ("CapPrm", "CapEff", "CapBnd"):
        assert int(facts[sort][0], 16) & ~needed == 0, sort
    for pid in (network, connector, *children(connector)):
        facts = status(pid)
        assert facts["NoNewPrivs"] == ["1"] and facts["Seccomp"] == ["2"]
    with pytest.raises(OSError):  # as root, without the capability to pass by a read-only mount
        pathlib.Path(f"/proc/{connector}/root/usr/local/written").touch()
    assert not os.access(f"/proc/{connector}/root/etc/cbus", os.W_OK)


def test_identity_key_is_with_the_connector_alone(agent):
    network, connector, seed = agent
    assert memory_has(connector, seed), "the search finds nothing"
    assert not memory_has(network, seed)
    for child in wait_for(lambda: children(connector), "the process that connects as a user"):
        assert not memory_has(child, seed)


def test_connector_has_no_way_to_the_network(agent):
    network, connector, _seed = agent
    assert internet_sockets(network), "the search finds nothing"
    assert not internet_sockets(connector)
    for child in children(connector):
        assert not internet_sockets(child)
    assert status(connector)["Uid"] == ["0"] * 4
