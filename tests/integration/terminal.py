"""A program on a terminal of its own, which is its controlling one, too."""
import contextlib
import fcntl
import os
import pty
import select
import subprocess
import termios
import time


class Terminal:
    """KWARGS are Popen's: what they name is not the terminal's."""

    def __init__(self, argv, environment, **kwargs):
        self.parent, child = pty.openpty()
        termios.tcsetwinsize(child, (50, 250))
        streams = {"stdin": child, "stdout": child, "stderr": child, **kwargs}
        self.process = subprocess.Popen([str(word) for word in argv], start_new_session=True, env={"TERM": "xterm", **environment},
                                        preexec_fn=lambda: fcntl.ioctl(child, termios.TIOCSCTTY, 0), **streams)
        os.close(child)
        self.text = ""

    def read(self, timeout=0.1):
        """Takes in what is there; False when nothing comes any more."""
        if not select.select([self.parent], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.parent, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def until(self, word, timeout=20):
        """Until WORD, or its end if it is None, was written; all text so far."""
        end = time.monotonic() + timeout
        while word is None or word not in self.text:
            assert time.monotonic() < end, self.text
            if not self.read():
                assert word is None, self.text
                break
        return self.text

    def type(self, keys):
        os.write(self.parent, keys.encode())

    def finish(self):
        """Its exit status, once it ended by itself."""
        self.until(None)
        self.close()
        return self.process.returncode

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self.parent)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
