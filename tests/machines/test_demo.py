"""The demo: its whole run succeeds, and nothing of it is left, after Ctrl-C too."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def place():
    """Where the demo keeps its machines: on the disk of the root, as an overlay needs it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="cd-", dir="/var/tmp"))
    yield directory
    directory.rmdir()


def leftovers(place):
    mounts = [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(place) in line]
    processes = []
    for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(place).encode() in command.read_bytes():
                processes.append(command)
        except OSError:
            pass
    return mounts + processes + list(place.iterdir())


def start(place, **kwargs):
    """As a terminal's foreground command: what a shell starts in the background, as these tests may be, ignores Ctrl-C."""
    return subprocess.Popen(["env", "--default-signal=INT", sys.executable, "-B", str(HERE / "demo.py")], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "CBUS_FLEET_TMP": str(place), "PYTHONUNBUFFERED": "1"}, **kwargs)


def test_the_demo_shows_the_main_job_and_leaves_nothing(place):
    demo = start(place)
    out, err = demo.communicate(timeout=180)
    assert demo.returncode == 0, out[-3000:] + err[-3000:]
    assert out.count('s "multi-user.target"') == 3
    assert "JobRemoved" in out
    assert leftovers(place) == []


MOMENTS = ["# Booting", "# The fleet", "$ busctl --user --no-pager tree", "$ gdbus monitor", "$ busctl --user --no-pager call", "# web1 is cut off"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_the_demo_and_everything_it_started(place, moment):
    """As a terminal sends it: to the whole process group."""
    demo = start(place, start_new_session=True)
    for line in demo.stdout:
        if line.startswith(moment):
            break
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert leftovers(place) == []


def test_an_impatient_ctrl_c_does_no_harm(place):
    demo = start(place, start_new_session=True)
    for line in demo.stdout:
        if line.startswith("# The fleet"):
            break
    for _ in range(20):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            demo.wait(0.05)
    demo.communicate(timeout=30)
    assert demo.returncode in (130, -signal.SIGINT)
    assert leftovers(place) == []
