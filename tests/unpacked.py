"""Programs that the tests run without having them installed: tests/prepare.sh unpacks their packages below CBUS_UNPACKED
(build/unpacked), for some of them would start services or take over the network."""
import os
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[1]
TREE = pathlib.Path(os.environ.get("CBUS_UNPACKED", TOP / "build" / "unpacked"))
THERE = TREE.with_name(TREE.name + ".list").exists()
REASON = "tests/check unpacks the programs that this needs"


def environment():
    """One in which unpacked programs are found, with their libraries."""
    programs = [str(TREE / place) for place in ("usr/bin", "usr/sbin", "bin", "sbin")]
    libraries = [str(place) for top in ("usr/lib", "lib") for place in (TREE / top).glob("*-linux-gnu*")]
    return {**os.environ, "PATH": ":".join([os.environ["PATH"], *programs]), "LD_LIBRARY_PATH": ":".join(libraries),
            "OFONO_SCRIPT_DIR": str(TREE / "usr/share/ofono/scripts")}


def copy_into(root):
    """Puts them all into the file system below ROOT, whose /lib may be a link."""
    with subprocess.Popen(["tar", "-C", TREE, "-c", "."], stdout=subprocess.PIPE) as packed:
        subprocess.run(["tar", "-C", root, "-x", "--keep-directory-symlink", "--no-same-owner"], stdin=packed.stdout, check=True)
    assert packed.returncode == 0
