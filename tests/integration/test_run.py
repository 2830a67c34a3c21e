"""cbus run: a command whose system bus is a machine's, and which finds nothing of the systemd of this host."""
import os
import pty
import select
import signal
import subprocess
import sys
import termios

import pytest
from stack import BUILD, TEST, wait_for

SERVICE = "com.example.One"
PATH = "/com/example/Test"


def cbus_run(stack, machine, *command, **kwargs):
    return subprocess.run([str(BUILD / "cli/cbus"), "run", machine, "--", *command], capture_output=True, text=True,
                          timeout=30, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": stack.session.address}, **kwargs)


needs_namespaces = pytest.mark.skipif(subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode != 0,
                                      reason="this kernel gives no user namespaces")


@needs_namespaces
def test_run_gives_the_command_the_machines_bus(stack):
    done = cbus_run(stack, "web1", "dbus-send", "--system", "--print-reply", f"--dest={SERVICE}", PATH, f"{TEST}.Child")
    assert "object path" in done.stdout
    assert done.returncode == 0


@needs_namespaces
@pytest.mark.parametrize("machine", ["name", "nkey", "prefix"])
def test_run_selects_a_machine(stack, machine):
    word = {"name": "web1", "nkey": stack.nkey, "prefix": stack.nkey[:5]}[machine]
    assert cbus_run(stack, word, "hostname").stdout == "web1\n"


@needs_namespaces
def test_run_ends_as_the_command_ends(stack):
    assert cbus_run(stack, "web1", "sh", "-c", "exit 7").returncode == 7
    assert cbus_run(stack, "web1", "sh", "-c", "kill -TERM $$").returncode == -15
    for machine, command in (("nowhere", "true"), (stack.nkey[:4], "true"), ("web1", "/no/such/command")):
        done = cbus_run(stack, machine, command)
        assert done.returncode == 255
        assert done.stderr.startswith("cbus: ")


@needs_namespaces
def test_run_leaves_nothing_of_the_local_systemd(stack):
    script = """ls -A /run/systemd/system /etc/systemd /usr/lib/systemd /run/user/$(id -u) /run/log 2>&1; ls /run/systemd/private 2>&1
    touch /etc/systemd/x 2>&1; touch /run/systemd/system/x 2>&1; echo "session=$DBUS_SESSION_BUS_ADDRESS"
    echo "runtime=$XDG_RUNTIME_DIR"; grep CapEff /proc/self/status; umount /etc/systemd 2>&1"""
    said = cbus_run(stack, "web1", "sh", "-c", script).stdout
    assert "session=\n" in said
    assert f"runtime=/run/user/{os.geteuid()}\n" in said
    assert said.count("Read-only file system") == 2 or said.count("Permission denied") == 2
    assert "CapEff:\t0000000000000000" in said
    assert "/run/systemd/private': No such file" in said
    assert ".service" not in said
    assert "umount" in said


@needs_namespaces
def test_run_warns_once_of_what_is_local(stack):
    assert cbus_run(stack, "web1", "journalctl", "-n", "1").stderr.count("cbus: warning: journalctl") == 1
    assert "warning" not in cbus_run(stack, "web1", "true").stderr


@needs_namespaces
def test_run_does_not_reach_the_session(stack):
    done = cbus_run(stack, "web1", "systemctl", "--user", "status")
    assert done.returncode != 0
    assert "Failed to connect to bus" in done.stderr


@needs_namespaces
def test_run_sends_no_signal_to_init_and_none_to_all(stack):
    script = """kill -0 1 && echo init; kill -0 -1 && echo all; kill -0 $$ && kill -0 $PPID && echo others; sleep 60 & kill $! && wait $!
    echo $?"""
    for interpreter in (["sh", "-c"], ["bash", "-c"]):
        done = cbus_run(stack, "web1", *interpreter, script)
        assert done.stdout.split() == ["others", "143"]
        assert done.stderr.count("Operation not permitted") == 2
    calls = """import os, signal, ctypes
libc = ctypes.CDLL(None, use_errno=True)
for attempt in (lambda: os.kill(1, 0), lambda: os.kill(-1, 0), lambda: os.pidfd_open(1)):
    try: attempt(); print("reached")
    except PermissionError: print("refused")
os.close(os.pidfd_open(os.getpid()))
signal.raise_signal(signal.SIGCONT)
os.killpg(0, 0)"""
    assert cbus_run(stack, "web1", sys.executable, "-c", calls, start_new_session=True).stdout.split() == ["refused"] * 3


@needs_namespaces
def test_run_becomes_the_command(stack):
    """What started cbus waits for the command itself, signals it, and stops and continues it."""
    command = subprocess.Popen([BUILD / "cli/cbus", "run", "web1", "--", "sh", "-c", "echo $$; exec sleep 100"], stdout=subprocess.PIPE,
                               text=True, stdin=subprocess.DEVNULL, env={**os.environ, "CBUS_BUS": stack.session.address})
    assert int(command.stdout.readline()) == command.pid
    command.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(command.pid, os.WUNTRACED)[1])
    command.send_signal(signal.SIGCONT)
    assert os.WIFCONTINUED(os.waitpid(command.pid, os.WCONTINUED)[1])
    command.send_signal(signal.SIGUSR1)
    assert command.wait(10) == -signal.SIGUSR1
    command.stdout.close()


class Terminal:
    """cbus run in a terminal of its own."""

    def __init__(self, stack, *command):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="\\h:", CBUS_BUS=stack.session.address)
            os.execv(BUILD / "cli/cbus", ["cbus", "run", "web1", "--", *command])
        self.text = ""

    def read(self, until):
        def more():
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 4096).decode(errors="replace")
            return until in self.text

        wait_for(more, f"the terminal to show {until!r}")

    def type(self, text):
        os.write(self.master, text)

    def status(self):
        try:
            pid, status = wait_for(lambda: (done := os.waitpid(self.pid, os.WNOHANG))[0] and done, "the command to end")
        except AssertionError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        finally:
            os.close(self.master)
        return os.waitstatus_to_exitcode(status)


@needs_namespaces
def test_run_is_a_shell_whose_prompt_names_the_machine(stack):
    terminal = Terminal(stack, "bash", "--norc", "--noprofile", "-i")
    terminal.read("web1:")
    terminal.type(b"exit 6\n")
    assert terminal.status() == 6


@needs_namespaces
def test_run_is_a_shell_with_job_control_and_the_terminals_size(stack):
    terminal = Terminal(stack, "bash", "--norc", "--noprofile", "-i")
    terminal.read("web1:")
    terminal.type(b"cat; echo st''opped $?\n")
    terminal.read("cat;")
    terminal.type(b"here\n")
    terminal.read("here\r\nhere\r\n")
    terminal.type(b"\x1a")
    terminal.read("stopped 148")
    terminal.text = ""
    terminal.type(b"jobs; fg\n")
    terminal.read("\r\ncat\r\n")
    assert "Stopped" in terminal.text
    terminal.text = ""
    terminal.type(b"\x04")
    terminal.read("web1:")
    termios.tcsetwinsize(terminal.master, (33, 77))
    terminal.type(b"stty size\n")
    terminal.read("33 77")
    terminal.type(b"exit 3\n")
    assert terminal.status() == 3


@needs_namespaces
def test_run_leaves_ctrl_c_to_the_command(stack):
    terminal = Terminal(stack, "sh", "-c", "trap 'exit 9' INT; echo begun; while :; do sleep 1; done")
    terminal.read("begun")
    terminal.type(b"\x03")
    assert terminal.status() == 9


def test_run_without_a_proxy_says_so(stack):
    done = subprocess.run([str(BUILD / "cli/cbus"), "run", "--bus", stack.remote.address, "web1", "--", "true"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 255
    assert "no cbus-proxy" in done.stderr
