"""The memory that holds keys: no other process of the same user may read it, and no core of it is written."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from stack import BUILD, wait_for

NOBODY = 65534
SANITIZED = b"__asan_init" in (BUILD / "agent/cbus-agent").read_bytes()
# A sanitized agent stays open to the leak check, which traces it.
DAEMONS = ["proxy/cbus-proxy"] if SANITIZED else ["proxy/cbus-proxy", "agent/cbus-agent"]


def owner_of_memory(pid):
    return pathlib.Path(f"/proc/{pid}/mem").stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="starts daemons as another user")
@pytest.mark.parametrize("daemon", DAEMONS)
def test_nobody_but_root_reads_it(daemon):
    with tempfile.TemporaryDirectory(prefix="cbus-memory-") as directory:
        place = pathlib.Path(directory)
        place.chmod(0o755)
        os.mkfifo(place / "settings")
        (place / "settings").chmod(0o644)
        program = place / "daemon"
        shutil.copy(BUILD / daemon, program)
        process = subprocess.Popen([program, "--config", place / "settings"], user=NOBODY, group=NOBODY, stderr=subprocess.DEVNULL)
        other = subprocess.Popen(["sleep", "60"], user=NOBODY, group=NOBODY)
        try:
            waits = pathlib.Path(f"/proc/{process.pid}/wchan")
            wait_for(lambda: waits.read_text() == "wait_for_partner", "the daemon to open its settings: no key is read before")
            assert owner_of_memory(other.pid) == NOBODY, "the kernel tells them apart in another way"
            assert owner_of_memory(process.pid) == 0
        finally:
            for started in (process, other):
                started.kill()
                started.wait()
