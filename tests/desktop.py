"""A desktop without a screen, on which d-feet runs: an X server, a session bus of its own with accessibility, and d-feet."""
import json
import os
import pathlib
import subprocess
import sys

from programs import Bus, Program, Started


class Desktop(Started):
    """DIRECTORY: an empty one, which is also its home."""

    def __init__(self, directory):
        super().__init__()
        self.directory = pathlib.Path(directory)

    def _spawn(self, name, *arguments, **kwargs):
        program = Program(name, self.directory)
        self.programs.append(program)
        self.stack.callback(program.kill)
        program.spawn([name, *arguments], **kwargs)

    def _start(self):
        bus = Bus("session", self.directory)
        self.stack.callback(bus.kill)
        bus.activatable("org.a11y.Bus", ["/usr/libexec/at-spi-bus-launcher"])
        bus.start()
        self.programs = [bus]
        display, told = os.pipe()
        self._spawn("Xvfb", "-displayfd", told, "-screen", "0", "1024x768x24", "-nolisten", "tcp", pass_fds=[told])
        os.close(told)
        with open(display, encoding="ascii") as number:
            display = f":{number.readline().strip()}"
        home = str(self.directory)
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8", "DISPLAY": display, "DBUS_SESSION_BUS_ADDRESS": bus.address,
                            "DBUS_SYSTEM_BUS_ADDRESS": bus.address, "GTK_MODULES": "gail:atk-bridge", "GSETTINGS_BACKEND": "memory",
                            "HOME": home, "XDG_CONFIG_HOME": home, "XDG_RUNTIME_DIR": home}
        self._spawn("d-feet", env=self.environment)

    def log(self):
        return "".join(program.log() for program in self.programs)

    def look(self, address, name, wanted):
        """Connects d-feet to ADDRESS and chooses NAME; once the object WANTED is shown, the names and the objects that are."""
        driver = pathlib.Path(__file__).with_name("drive_dfeet.py")
        done = subprocess.run([sys.executable, "-B", str(driver), address, name, wanted], env=self.environment, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        return json.loads(done.stdout)
