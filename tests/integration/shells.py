"""Interactive shells on terminals of their own: what their completions offer, and what a command gets of it.

bash and zsh read keys here as they do from a person; what their completion found is noted down where the shell takes it
in. The command that is completed is a function of the shell which notes its arguments down. fish is asked what it would
offer (complete -C), as its own tests do.
"""
import os
import pathlib
import subprocess

from terminal import Terminal

TOP = pathlib.Path(__file__).resolve().parents[2]
COMPLETIONS = TOP / "data" / "completions"

BASHRC = """
PS1='$ '
HISTFILE=
bind 'set completion-query-items 0'
bind 'set page-completions off'
bind 'set enable-bracketed-paste off'
. {completions}/cbus.bash
cbus() {{ printf '%s\\n' "$@" >{directory}/arguments; }}
noting() {{
    _cbus "$@"
    printf '%s\\n' "${{COMPREPLY[@]}}" >>{directory}/offered
}}
complete -F noting cbus
"""

ZSHRC = """
PS1='$ '
LISTMAX=100000
unset HISTFILE
setopt no_auto_menu no_beep
fpath=({completions} $fpath)
autoload -Uz compinit
compinit -u -d {directory}/zcompdump
compadd() {{
    local -a found
    # Those that only ask which would fit are not the last word.
    if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]]; then
        builtin compadd "$@"
        return $?
    fi
    builtin compadd -A found "$@"
    print -rl -- $found >>{directory}/offered
    builtin compadd "$@"
}}
cbus() {{ print -rl -- "$@" >{directory}/arguments; }}
"""


class Shell:
    """bash or zsh on a terminal."""

    def __init__(self, name, directory, environment):
        self.directory = pathlib.Path(directory)
        self.offered, self.arguments = self.directory / "offered", self.directory / "arguments"
        rc = {"bash": BASHRC, "zsh": ZSHRC}[name].format(completions=COMPLETIONS, directory=directory)
        (self.directory / f".{name}rc").write_text(rc)
        argv = {"bash": ["bash", "--noprofile", "--rcfile", str(self.directory / ".bashrc"), "-i"], "zsh": ["zsh", "-d", "-i"]}[name]
        self.terminal = Terminal(argv, {**environment, "ZDOTDIR": str(directory), "HOME": str(directory)}, cwd=directory)
        self.count = 0
        self.until_done()

    def until_done(self, keys=""):
        """Types KEYS and, on a line of its own, a command; returns when that has run: keys are taken one after another."""
        self.count += 1
        self.terminal.type(f"{keys}\x01\x0becho done$(({self.count}+0))end\r")
        self.terminal.until(f"done{self.count}end")

    def offers(self, line):
        """All that could stand at the end of LINE."""
        self.offered.write_text("")
        self.until_done(line + "\t")
        return {word for word in self.offered.read_text().splitlines() if word}

    def completed(self, line):
        """The words that the command gets when LINE is completed and run."""
        self.arguments.write_text("")
        self.until_done(line + "\t\r")
        return self.arguments.read_text().splitlines()

    def close(self):
        self.terminal.process.kill()
        self.terminal.close()


class Fish:
    def __init__(self, directory, environment):
        self.environment = {**environment, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "LINE": ""}
        self.directory = directory

    def offers(self, line):
        text = subprocess.run(["fish", "--private", "-c", f"source {COMPLETIONS}/cbus.fish; complete -C $LINE"], capture_output=True,
                              text=True, check=True, cwd=self.directory, env={**self.environment, "LINE": line}, timeout=20).stdout
        return {row.split("\t")[0] for row in text.splitlines()}

    def completed(self, line):
        """fish puts in the last word's place what all that it offers begins with."""
        head, _, last = line.rpartition(" ")
        return [*head.split()[1:], os.path.commonprefix(sorted(self.offers(line))) or last]

    def close(self):
        pass
