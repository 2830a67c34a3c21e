"""A real machine: systemd booted by systemd-nspawn over an overlay of this host, in half a second.

Each machine has a machine-id, a host name and an SSH host key of its own, and starts none of the services that the
host happens to have enabled. Its system bus is dbus-daemon or dbus-broker. Everything a machine leaves is below its
directory and goes with stop().

Needs root. Ends only what it started, by pid.
"""
import os
import pathlib
import select
import shutil
import signal
import subprocess
import uuid

from programs import wait_for


class MachineError(Exception):
    pass


def run(*argv, **kwargs):
    """Runs a command that must succeed; its output is returned, its errors are in the exception."""
    done = subprocess.run(argv, text=True, capture_output=True, check=False, **kwargs)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise MachineError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {said}")
    return done.stdout


def children(pid):
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Machine:
    """PLAIN: it is not booted, no systemd and no bus run in it; for hosts of other kinds."""

    def __init__(self, name, directory, bus="dbus-daemon", network=None, plain=False):
        self.name = name
        self.plain = plain
        self.directory = pathlib.Path(directory) / name
        self.bus = bus
        self.network = network
        self.root = self.directory / "root"
        self.log = self.directory / "console.log"
        self.process = None
        self.mounted = False

    # --- life -----------------------------------------------------------------------------------------------------

    def prepare(self):
        """Mounts the root and makes it a machine of its own; boot() follows, after files were put in by write()."""
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "overlay", f"cbus-{self.name}", "-o",
            f"lowerdir=/,upperdir={self.directory}/upper,workdir={self.directory}/work", str(self.root))
        self.mounted = True
        system = self.root / "etc/systemd/system"
        for entry in system.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if self.bus == "dbus-broker":
            (system / "dbus.service").symlink_to("/lib/systemd/system/dbus-broker.service")
        (system / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
        # What a container has no use for, and what would wait for hardware that is not there.
        for unit in ("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-timesyncd.service",
                     "systemd-networkd.service", "systemd-resolved.service", "console-getty.service",
                     "systemd-remount-fs.service", "nats-server.service", "postgresql.service",
                     "redis-server.service", "mariadb.service", "mysql.service", "docker.service",
                     "containerd.service", "cron.service"):
            (system / unit).symlink_to("/dev/null")
        self.write("etc/machine-id", uuid.uuid4().hex + "\n")
        self.write("etc/hostname", self.name + "\n")
        self.write("etc/fstab", "")
        for old in (self.root / "etc/ssh").glob("ssh_host_*"):
            old.unlink()
        (self.root / "etc/ssh").mkdir(exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{self.name}", "-f",
            str(self.root / "etc/ssh/ssh_host_ed25519_key"))
        shutil.rmtree(self.root / "var/log/journal", ignore_errors=True)
        return self

    def boot(self):
        """Boots; returns when the machine's bus and systemd answer."""
        argv = ["systemd-nspawn", "-q", "-D", str(self.root), "-M", self.name, "--register=no", "--keep-unit",
                "--link-journal=no", "--console=pipe", "--resolv-conf=off", "--timezone=off"]
        if not self.plain:
            argv.append("-b")
        if self.network:
            argv.append(f"--network-namespace-path=/run/netns/{self.network}")
        if self.plain:
            argv += ["--as-pid2", "/bin/sleep", "infinity"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                                            start_new_session=True)
        try:
            wait_for(lambda: self._alive() and self.init, f"{self.name} to start its init")
            if self.plain:
                return self
            wait_for(lambda: self._alive() and os.path.exists(self.bus_path), f"the bus of {self.name}")
            wait_for(lambda: self._alive() and self._booted(), f"systemd of {self.name} to finish booting", 60)
        except (MachineError, AssertionError) as error:
            tail = self.log.read_text(errors="replace")[-2000:]
            self.stop()
            raise MachineError(f"{error}\nconsole of {self.name}:\n{tail}") from None
        return self

    def _alive(self):
        if self.process.poll() is not None:
            raise MachineError(f"systemd-nspawn of {self.name} ended with {self.process.returncode}")
        return True

    def _booted(self):
        done = subprocess.run(self.enter("systemctl", "is-system-running"), text=True, capture_output=True, check=False)
        return done.stdout.strip() in ("running", "degraded")

    def stop(self):
        """Ends the machine at once and unmounts it. Safe to call again."""
        if self.process is not None:
            init = self.init
            for pid in ([init] if init else []) + [self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
            self.process = None
        if self.mounted:
            for _ in range(200):
                if subprocess.run(["umount", str(self.root)], capture_output=True, check=False).returncode == 0:
                    break
                select.select([], [], [], 0.02)
            else:
                subprocess.run(["umount", "-l", str(self.root)], check=False)
            self.mounted = False
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def init(self):
        """The pid, as this host sees it, of the machine's systemd; of a plain one, of the init that nspawn lends it."""
        if self.process is None:
            return None
        for pid in children(self.process.pid):
            try:
                main = children(pid)[0] if self.plain else pid
                if os.readlink(f"/proc/{main}/exe").endswith("/sleep" if self.plain else "/systemd"):
                    return pid
            except (OSError, IndexError):
                pass
        return None

    @property
    def bus_path(self):
        """The machine's system bus, seen from outside."""
        return f"/proc/{self.init}/root/run/dbus/system_bus_socket"

    @property
    def bus_address(self):
        return f"unix:path={self.bus_path}"

    def enter(self, *argv):
        """The command line that runs argv inside, as root."""
        return ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-p", "-n", "-C", "--root", "--wd=/", "env", "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=dumb", *argv]

    def run(self, *argv):
        return run(*self.enter(*argv))

    def write(self, path, text, mode=0o644):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        target.write_text(text)
        target.chmod(mode)

    def public_key(self):
        return (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()

    # --- the agent ------------------------------------------------------------------------------------------------

    def install_agent(self, build, nats_url, authorized_keys, arguments=""):
        """Puts the program in as `meson install` does, with the unit that comes with it and its confinement; installed
        before boot(), it starts with the machine."""
        shutil.copy(build / "agent/cbus-agent", self.root / "usr/local/bin/cbus-agent")
        self.write("etc/cbus/agent.conf", "# tests write here\n")
        self.write("etc/cbus/authorized_keys", authorized_keys, 0o600)
        self.write("usr/local/lib/systemd/system/cbus-agent.service", (build / "data/cbus-agent.service").read_text())
        command = f"ExecStart=\nExecStart=/usr/local/bin/cbus-agent {arguments}\n" if arguments else ""
        self.write("etc/systemd/system/cbus-agent.service.d/test.conf", f"[Service]\nEnvironment=NATS_URL={nats_url}\n{command}")
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "cbus-agent.service").symlink_to("/usr/local/lib/systemd/system/cbus-agent.service")
