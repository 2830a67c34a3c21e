"""A machine with a gateway and no proxy, and what test_gateway*.py share."""
import os
import pwd

from plain import Plain, spell
from stack import BUILD, Program, Stack, spawn_service, wait_for

ONE = "com.example.One"
PATH = "/com/example/Test"
TYPED = "com.example.Typed"
TYPED_PATH = "/com/example/Typed"
HIDDEN = "org.example.Hidden"  # the policy does not know it
NAMES = [TYPED, "com.example.a_b", "com.example.a.b"]  # the last two: subjects can not tell them apart
USER = pwd.getpwuid(os.geteuid()).pw_name
POLICY = "[policy plain]\ntalk=com.example.*;org.freedesktop.systemd1\nsee=org.freedesktop.DBus.*\n"


class Gateway(Stack):
    settings = f"user={USER}\npolicy=plain\n"
    policies = POLICY

    def prepare(self):
        self.config = self.directory / "agent.conf"
        self.configure(self.settings)

    def configure(self, settings, policies=None):
        """SETTINGS None: no [gateway]."""
        group = f"[gateway]\n{settings}" if settings is not None else ""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(f"[agent]\naudit=stderr\nlog-level=2\n{group}{policies if policies is not None else self.policies}")
        fresh.chmod(0o644)
        fresh.rename(self.config)

    def start_agent(self, bus=None):
        self.agent_options = ["--config", self.config]
        super().start_agent(bus)

    def start_proxy(self):
        pass

    def start_service(self):
        super().start_service()
        self.typed = self.start_typed("typed", *NAMES)
        self.hidden = self.start_typed("hidden", HIDDEN)

    def start_typed(self, label, *names):
        program = Program(label, self.directory)
        self.stack.callback(program.kill)
        spawn_service(program, self.remote, *names, script="typed_service.py")
        return program

    def wait_online(self, service=ONE, timeout=15.0):
        self.plain = Plain(self.nats.url)
        self.stack.callback(self.plain.close)
        wait_for(self.is_served, f"the gateway: {self.agent.log()[-2000:]}")

    def is_served(self):
        try:
            return self.call("Echo", [{"type": "u", "data": 1}]).code == 200
        except ConnectionError:
            return False

    def check(self):
        assert self.agent.running, f"the agent ended with {self.agent.process.returncode}: {self.agent.log()[-3000:]}"
        for word in ("CRITICAL", "ERROR: AddressSanitizer", "runtime error:"):
            assert word not in self.agent.log(), self.agent.log()[-4000:]

    def stop(self):
        self.check()
        assert self.agent.terminate() == 0, self.agent.log()[-3000:]

    def subject(self, member, service=ONE, path=PATH, kind="method", to=None):
        """Where a request goes; TO: who, instead of this machine."""
        elements = path.replace("/", ".").rstrip(".")
        return f"{to or f'dbus.agent.{self.nkey}'}.{spell(service)}{elements}.{kind}.{member}"

    def call(self, member, arguments="", service=ONE, path=PATH, timeout=15, **headers):
        return self.plain.request(self.subject(member, service, path), arguments, timeout, **headers)

    def get(self, name, service=ONE, path=PATH, **headers):
        return self.plain.request(self.subject(name, service, path, "prop"), **headers)

    def check_options(self, *more):
        return [BUILD / "agent/cbus-agent", "--config", self.config, "--key", self.machine_key, "--authorized-keys",
                self.authorized, "--bus", self.remote.address, *more]
