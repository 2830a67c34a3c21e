"""Three nats-servers that are one: agents and proxy know all three, and one is killed.

The agents are a swarm (tests/bench/swarm.c), spread over the servers as nats.c shuffles them; who is where is read from
the servers' own monitoring. What may be lost is what was under way to or from the server that died, and no more: those
calls are told so, all others are answered, and every machine is back soon.
"""
import json
import pathlib
import subprocess
import time
import urllib.request

import pytest
from gi.repository import GLib

from stack import BUILD, NAME, ROOT, Bus, NatsServer, Program, Stack, escape, split_error, wait_for

MACHINES = 24
BACK_S = 10
SWARM = BUILD / "tests" / "bench" / "swarm"
NO_REPLY = "org.freedesktop.DBus.Error.NoReply"
OFFLINE = "ie.bmcgee.CBus1.Error.Offline"


class Node(NatsServer):
    """One server of the cluster; ROUTE is where it finds another, or None for the first."""

    def __init__(self, name, directory, route):
        directory = pathlib.Path(directory) / name
        directory.mkdir()
        super().__init__(directory)
        self.name = name
        routes = "" if route is None else f'routes: ["{route}"]'
        self.config = f"""server_name: {name}
http: "127.0.0.1:-1"
cluster {{ name: fleet, listen: "127.0.0.1:-1", {routes} }}
"""

    def address(self, what):
        return json.loads(next(self.directory.glob("*.ports")).read_text())[what][0]

    def subjects(self):
        """Of each client: what it subscribed to."""
        url = f"http://127.0.0.1:{self.address('monitoring').rsplit(':', 1)[1]}/connz?subs=1&limit=1000"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return [client.get("subscriptions_list", []) for client in json.load(answer)["connections"]]


class Cluster(Stack):
    """The stack's own machine and a swarm beside it, all behind three servers."""

    def prepare(self):
        self.nodes = [Node("first", self.directory, None).start()]
        self.stack.callback(self.nodes[0].kill)
        for name in ("second", "third"):
            node = Node(name, self.directory, self.nodes[0].address("cluster"))
            self.stack.callback(node.kill)
            self.nodes.append(node.start())
        self.agent_url = self.proxy_url = ",".join(node.url for node in self.nodes)
        keys = subprocess.run([SWARM, "keys", "m", str(MACHINES)], check=True, capture_output=True, text=True).stdout
        self.swarm_nkeys = [line.split()[0] for line in keys.splitlines()]
        self.known_machines.write_text(self.known_machines.read_text() + keys)
        self.swarm_bus = Bus("swarm-bus", self.directory)
        self.swarm = Program("swarm", self.directory)
        self.stack.callback(self.swarm_bus.kill)
        self.stack.callback(self.swarm.kill)
        self.swarm_bus.start()
        self.swarm_service = Program("swarm-service", self.directory)
        self.stack.callback(self.swarm_service.kill)
        self.service, service = self.swarm_service, self.service
        self.remote, remote = self.swarm_bus, self.remote
        self.start_service()
        self.service, self.remote = service, remote
        self.swarm.spawn([SWARM, "run", "m", str(MACHINES), self.agent_url, self.swarm_bus.address,
                          self.nkey_of(self.operator_key)])

    def state_of(self, nkey):
        return self.client.call(NAME, f"{ROOT}/{nkey}", "org.freedesktop.DBus.Properties", "Get", "(ss)",
                                "ie.bmcgee.CBus1.Machine", "State")[0]

    def begin(self, nkey, member, *args):
        return self.client.start(NAME, f"{ROOT}/{nkey}/{escape('com.example.One')}/com/example/Test", "com.example.Test",
                                 member, *args)

    def answers(self, nkey):
        """Whether an echo comes back from the machine."""
        echo = self.begin(nkey, "Echo", "(v)", GLib.Variant("u", 1))
        self.client.wait(lambda: echo, "an echo or its error")
        return echo[0] == (1,)

    def wait_all(self, timeout):
        """Until every machine of the swarm answers."""
        start = time.monotonic()
        for nkey in self.swarm_nkeys:
            left = timeout - (time.monotonic() - start)
            wait_for(lambda key=nkey: self.answers(key), f"{nkey} to answer: {self.state_of(nkey)}; {self.proxy.log()[-1500:]}",
                     max(left, 0.1))

    def places(self):
        """Node → NKeys of the swarm's agents on it; and the node of the proxy."""
        agents, proxy = {}, None
        for node in self.nodes:
            if not node.running:
                continue
            clients = node.subjects()
            agents[node] = [nkey for nkey in self.swarm_nkeys if any(f"cbus.v1.{nkey}.in" in client for client in clients)]
            if any("cbus.v1.*.here" in client for client in clients):
                proxy = node
        return agents, proxy


@pytest.fixture
def cluster():
    with Cluster() as running:
        running.wait_all(20)
        yield running
        running.stop()


def hang(cluster):
    calls = {nkey: cluster.begin(nkey, "Hang") for nkey in cluster.swarm_nkeys}
    for nkey in cluster.swarm_nkeys:
        assert cluster.answers(nkey)  # behind the other call, in order: that one has arrived
    return calls


def lost(calls):
    return {nkey for nkey, call in calls.items() if call}


def test_agents_whose_server_dies_lose_their_calls_and_come_back(cluster):
    places, of_proxy = cluster.places()
    victim = max((node for node in cluster.nodes if node is not of_proxy), key=lambda node: len(places[node]))
    affected = set(places[victim])
    assert 0 < len(affected) < MACHINES
    calls = hang(cluster)
    victim.kill()
    start = time.monotonic()
    cluster.client.wait(lambda: affected <= lost(calls), "the answers of those whose server died", 5)
    for nkey in affected:
        assert split_error(calls[nkey][0])[0] == NO_REPLY
    cluster.wait_all(BACK_S - (time.monotonic() - start))
    # The others' links are those that there were: another link would have ended these calls.
    assert lost(calls) == affected


def test_idle_machines_whose_server_dies_are_back_soon(cluster):
    places, of_proxy = cluster.places()
    victim = max((node for node in cluster.nodes if node is not of_proxy), key=lambda node: len(places[node]))
    victim.kill()
    start = time.monotonic()
    wait_for(lambda: all(key in sum(cluster.places()[0].values(), []) for key in cluster.swarm_nkeys),
             "the agents to find another server")
    cluster.wait_all(BACK_S - (time.monotonic() - start))


def test_the_proxys_server_dies_and_all_machines_come_back(cluster):
    _places, of_proxy = cluster.places()
    calls = hang(cluster)
    of_proxy.kill()
    start = time.monotonic()
    cluster.client.wait(lambda: len(lost(calls)) == MACHINES, "an answer to every call", 5)
    for call in calls.values():
        assert split_error(call[0])[0] in (NO_REPLY, OFFLINE)
    cluster.wait_all(BACK_S - (time.monotonic() - start))
    cluster.wait_online()
