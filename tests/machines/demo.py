"""The main job of CBus on real machines: three booted systems, driven by busctl from one session bus.

Prints each command before it runs it. What it started ends with it, after Ctrl-C too.
"""
import shlex
import signal
import subprocess
import sys

from fleet import Fleet

NAME = "ie.bmcgee.CBus"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
WIDTH = 150  # of lines that are shown in part


def title(text):
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


class Demo:
    def __init__(self, fleet):
        self.fleet = fleet

    def readable(self, line):
        """LINE with NKeys cut to their first characters, and itself to the width of a page."""
        for nkey in self.fleet.nkeys.values():
            line = line.replace(nkey, nkey[:8] + "…")
        return line if len(line) <= WIDTH else line[:WIDTH - 1] + "…"

    def show(self, *argv, lines=None):
        """Prints a command, runs it on the session bus, prints its output (or the first LINES of it, in a readable width)
        and returns all of it."""
        print("$ " + shlex.join(argv), flush=True)
        done = subprocess.run(argv, text=True, capture_output=True, env=self.fleet.environment, check=False)
        output = done.stdout.splitlines()
        if lines is not None and len(output) > lines:
            for line in output[:lines]:
                print("  " + self.readable(line))
            print(f"  … ({len(output) - lines} more lines)", flush=True)
        else:
            for line in output:
                print("  " + line, flush=True)
        if done.returncode != 0:
            raise SystemExit(f"demo: {argv[0]} failed with {done.returncode}: {done.stderr.strip()}\n"
                             f"--- cbus-proxy said\n{self.fleet.proxy_log()[-3000:]}")
        return done.stdout

    def busctl(self, *arguments, lines=None):
        return self.show("busctl", "--user", "--no-pager", *arguments, lines=lines)

    def browse(self):
        title("The fleet")
        self.show(str(self.fleet.cbus), "machines")
        title("Every object of every machine, below one name")
        self.busctl("tree", NAME, lines=24)
        title("A remote unit, introspected")
        unit = self.fleet.path("web1", below="/org/freedesktop/systemd1/unit/dbus_2eservice")
        self.busctl("introspect", NAME, unit, lines=16)

    def call(self):
        for name in self.fleet.names:
            title(f"{name}: call, and follow the object path that comes back")
            manager = self.fleet.path(name)
            self.busctl("call", NAME, manager, MANAGER, "GetDefaultTarget")
            path = self.busctl("call", NAME, manager, MANAGER, "GetUnit", "s", "dbus.service").split('"')[1]
            self.busctl("get-property", NAME, path, UNIT, "Id", "ActiveState", "SubState")

    def properties(self):
        title("web2: a property that can be set")
        manager = self.fleet.path("web2")
        self.busctl("get-property", NAME, manager, MANAGER, "LogLevel")
        self.busctl("set-property", NAME, manager, MANAGER, "LogLevel", "s", "debug")
        self.busctl("get-property", NAME, manager, MANAGER, "LogLevel")
        self.busctl("set-property", NAME, manager, MANAGER, "LogLevel", "s", "info")

    def monitor(self):
        title("web3: a unit starts and stops; its signals arrive here")
        service = self.fleet.path("web3", below="")
        manager = self.fleet.path("web3")
        command = ["gdbus", "monitor", "--session", "--dest", NAME]
        print("$ " + shlex.join(command) + " &", flush=True)
        seen = []
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.fleet.environment,
                                   stdin=subprocess.DEVNULL)
        try:
            while "is owned by" not in watcher.stdout.readline():
                pass
            self.busctl("call", NAME, manager, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", "demo.service", "fail",
                        "2", "Description", "s", "CBus demo", "ExecStart", "a(sasb)", "1", "/bin/sleep", "2",
                        "/bin/sleep", "60", "false", "0")
            self.until(watcher, seen, "JobRemoved", "demo.service")
            unit = self.busctl("call", NAME, manager, MANAGER, "GetUnit", "s", "demo.service").split('"')[1]
            self.busctl("get-property", NAME, unit, UNIT, "ActiveState")
            self.busctl("call", NAME, manager, MANAGER, "StopUnit", "ss", "demo.service", "fail")
            self.until(watcher, seen, "JobRemoved", "demo.service")
        finally:
            watcher.kill()
            watcher.wait()
        print(f"  gdbus monitor saw {len(seen)} signals below {service}, among them:")
        for line in [s for s in seen if "demo.service" in s and ("JobRemoved" in s or "UnitNew" in s)][:6]:
            print("  " + self.readable(line))

    def until(self, watcher, seen, member, word):
        """Reads signals until one of MEMBER that speaks of WORD."""
        timer = signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"demo: no {member} of {word} within 20 s"))
        signal.alarm(20)
        for line in watcher.stdout:
            seen.append(line.rstrip("\n"))
            if f".{member} " in line and word in line:
                break
        signal.alarm(0)
        signal.signal(signal.SIGALRM, timer)

    def ended(self):
        title("web1 is cut off: calls say so, nothing hangs")
        self.fleet.machines["web1"].run("systemctl", "stop", "cbus-agent")
        argv = ["busctl", "--user", "call", NAME, self.fleet.path("web1"), MANAGER, "GetDefaultTarget"]
        print("$ " + shlex.join(argv), flush=True)
        done = subprocess.run(argv, text=True, capture_output=True, env=self.fleet.environment, check=False)
        print("  " + (done.stderr.strip() or done.stdout.strip()))
        if done.returncode == 0:
            raise SystemExit("demo: a call to a machine without an agent must fail")
        self.show(str(self.fleet.cbus), "machines")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    title("Booting web1, web2, web3 (systemd-nspawn), a nats-server, a session bus and cbus-proxy")
    with Fleet(["web1", "web2", "web3"]) as fleet:
        fleet.wait_online()
        demo = Demo(fleet)
        demo.browse()
        demo.call()
        demo.properties()
        demo.monitor()
        demo.ended()
        title("Done: everything that was started ends now")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
