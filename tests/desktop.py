"""A desktop without a screen, on which d-feet runs: an X server, a session bus of its own with accessibility, and d-feet."""
import contextlib
import json
import os
import pathlib
import subprocess
import sys

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <servicedir>{directory}/services</servicedir>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""


class Desktop:
    """A context manager; all that it starts ends with it. DIRECTORY: an empty one, which is also its home."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self.stack.close()
            raise

    def __exit__(self, *exc):
        self.stack.close()

    def _spawn(self, argv, **kwargs):
        with open(self.directory / "log", "ab") as log:
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stderr=log, start_new_session=True,
                                       stdout=kwargs.pop("stdout", log), **kwargs)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def _start(self):
        (self.directory / "services").mkdir()
        (self.directory / "bus.conf").write_text(BUS.format(directory=self.directory))
        (self.directory / "services" / "org.a11y.Bus.service").write_text(
            "[D-BUS Service]\nName=org.a11y.Bus\nExec=/usr/libexec/at-spi-bus-launcher\n")
        bus = self._spawn(["dbus-daemon", f"--config-file={self.directory}/bus.conf", "--nofork", "--nopidfile", "--print-address=1"],
                          stdout=subprocess.PIPE, text=True)
        self.stack.callback(bus.stdout.close)
        assert bus.stdout.readline(), self.log()
        display, told = os.pipe()
        self._spawn(["Xvfb", "-displayfd", told, "-screen", "0", "1024x768x24", "-nolisten", "tcp"], pass_fds=[told])
        os.close(told)
        with open(display, encoding="ascii") as number:
            display = f":{number.readline().strip()}"
        address, home = f"unix:path={self.directory}/bus", str(self.directory)
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8", "DISPLAY": display, "DBUS_SESSION_BUS_ADDRESS": address,
                            "DBUS_SYSTEM_BUS_ADDRESS": address, "GTK_MODULES": "gail:atk-bridge", "GSETTINGS_BACKEND": "memory",
                            "HOME": home, "XDG_CONFIG_HOME": home, "XDG_RUNTIME_DIR": home}
        self._spawn(["d-feet"], env=self.environment)
        return self

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def look(self, address, name, wanted):
        """Connects d-feet to ADDRESS and chooses NAME; once the object WANTED is shown, the names and the objects that are."""
        driver = pathlib.Path(__file__).with_name("drive_dfeet.py")
        done = subprocess.run([sys.executable, "-B", str(driver), address, name, wanted], env=self.environment, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        return json.loads(done.stdout)
