"""A Stack with more machines: each has a bus, a service and an agent of its own."""
import json
import os
import subprocess

from stack import BUILD, NAME, ROOT, Bus, Program, Stack, spawn_service, wait_for

CBUS = BUILD / "cli" / "cbus"


class Machine:
    """One more machine; the first is the stack's own."""

    def __init__(self, stack, name):
        self.stack = stack
        self.name = name
        self.key = stack._key(f"key-{name}")
        self.nkey = stack.nkey_of(self.key)
        self.bus = Bus(f"bus-{name}", stack.directory)
        self.service = Program(f"service-{name}", stack.directory)
        self.agent = Program(f"agent-{name}", stack.directory)
        for program in (self.bus, self.service, self.agent):
            stack.stack.callback(program.kill)
        self.bus.start()
        spawn_service(self.service, self.bus, "com.example.One")
        self.start_agent()

    def start_agent(self):
        self.agent.spawn([BUILD / "agent/cbus-agent", "--nats", self.stack.nats.url, "--key", self.key,
                          "--authorized-keys", self.stack.authorized, "--bus", self.bus.address, "--name", f"host-{self.name}"],
                         env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address})

    def property(self, name):
        return self.stack.client.call(NAME, f"{ROOT}/{self.nkey}", "org.freedesktop.DBus.Properties", "Get", "(ss)",
                                      "ie.bmcgee.CBus1.Machine", name)[0]


class Fleet(Stack):
    """web1 (the stack's own), web2 and db1 are pinned and online, stray is online and not pinned, gone is pinned and never
    there."""

    def _start(self):
        super()._start()
        self.web2, self.db1, self.stray = (Machine(self, name) for name in ("web2", "db1", "stray"))
        self.gone = self.new_nkey("gone")
        self.known_machines.write_text(f"{self.nkey} web1\n{self.web2.nkey} web2\n{self.db1.nkey} db1\n{self.gone} gone1\n")
        for machine in (self.web2, self.db1, self.stray):
            self.wait_machine(machine, True)
        wait_for(lambda: self.web2.property("NamePinned") and not self.stray.property("NamePinned"), "the names")

    def wait_machine(self, machine, online):
        def reached():
            try:
                return machine.property("Online") == online and (not online or "com.example.One" in machine.property("Services"))
            except Exception:  # not listed yet
                return False
        wait_for(reached, f"{machine.name} {'online' if online else 'offline'}: {self.proxy.log()[-1500:]}")

    def cluster(self, member, signature, *args, **kwargs):
        return self.client.call(NAME, ROOT, "ie.bmcgee.CBus1.Cluster", member, signature, *args, **kwargs)[0]

    def start_cbus(self, *words, **env):
        return subprocess.Popen([CBUS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                env={**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": self.session.address, **env})

    def cbus(self, *words, timeout=30, **env):
        process = self.start_cbus(*words, **env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words, **kwargs):
        result = self.cbus(*words, "--json", **kwargs)
        return json.loads(result.stdout), result
