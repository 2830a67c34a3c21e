"""A machine that slept, or was restored from a snapshot: no link outlives it. The sleep is told to the daemons by a library that
moves their CLOCK_BOOTTIME, which is what a suspend does; all else is real."""
import pathlib
import subprocess
import tempfile

import pytest
from gi.repository import GLib
from stack import BUILD, Stack, split_error

SHIM = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    char text[16] = "";
    int fd, result = (int)syscall(SYS_clock_gettime, id, now);

    if (id != CLOCK_BOOTTIME || (fd = open(getenv("ASLEEP"), O_RDONLY | O_CLOEXEC)) < 0)
        return result;
    if (read(fd, text, sizeof text - 1) > 0)
        now->tv_sec += atoi(text);
    close(fd);
    return result;
}
"""
SANITIZED = b"__asan_init" in (BUILD / "agent/cbus-agent").read_bytes()
REASON = "this machine was suspended or restored"


class Sleeper(Stack):
    """Agent and proxy have a clock each that sleep() moves."""

    def prepare(self):
        # The agent's network process is not root: what it reads has to be where it can.
        self.clocks = pathlib.Path(tempfile.mkdtemp(prefix="cbus-clock-"))
        self.stack.callback(subprocess.run, ["rm", "-r", self.clocks], check=True)
        self.clocks.chmod(0o755)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.clocks / "shim.so", "-x", "c", "-"], input=SHIM.encode(), check=True)

    def _with_clock(self, name, start):
        self.set(name, 0)
        self.environment = {"LD_PRELOAD": str(self.clocks / "shim.so"), "ASLEEP": str(self.clocks / name)}
        start()

    def start_agent(self, bus=None):
        self._with_clock("agent", lambda: super(Sleeper, self).start_agent(bus))

    def start_proxy(self):
        self._with_clock("proxy", super().start_proxy)

    def set(self, name, seconds):
        fresh = self.clocks / "fresh"
        fresh.write_text(str(seconds))
        fresh.rename(self.clocks / name)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer has to be the first of the preloaded libraries")
def test_no_link_outlives_a_suspend_of_either_end():
    with Sleeper() as stack:
        for name, seconds in (("agent", 30), ("proxy", -30)):
            calls = [stack.start("Hang") for _ in range(3)]
            assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
            linked = stack.proxy.log().count("A machine is online")
            stack.set(name, seconds)
            stack.client.wait(lambda: all(calls), "the answers", 4)
            for call in calls:
                error, message = split_error(call[0])
                assert error == "org.freedesktop.DBus.Error.NoReply" and REASON in message and "web1" in message
            stack.wait_online()
            assert stack.proxy.log().count("A machine is online") == linked + 1
            assert stack.call("Echo", "(v)", GLib.Variant("u", 2)) == (2,)
        stack.stop()
