"""The demo: its whole run succeeds, and nothing of it is left, after Ctrl-C too."""
import os
import pathlib
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def leftovers():
    mounts = [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if line.startswith("cbus-")]
    directories = list(pathlib.Path("/var/tmp").glob("cbus-fleet-*"))
    return set(mounts), set(directories)


def test_the_demo_shows_the_main_job_and_leaves_nothing():
    before = leftovers()
    done = subprocess.run([sys.executable, "-B", str(HERE / "demo.py")], text=True, capture_output=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count('s "multi-user.target"') == 3
    assert "JobRemoved" in done.stdout
    assert leftovers() == before


def test_ctrl_c_ends_the_demo_and_everything_it_started():
    before = leftovers()
    demo = subprocess.Popen([sys.executable, "-B", str(HERE / "demo.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for line in demo.stdout:
        if line.startswith("$ busctl --user --no-pager tree"):
            break
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert leftovers() == before
