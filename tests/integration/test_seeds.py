"""Both daemons with their identities in NKey seed files, logged in to a server that knows these keys alone."""
import pathlib
import subprocess

from gi.repository import GLib
from nats_login import NKey
from stack import BUILD, Stack


class Seeded(Stack):
    """Where others have OpenSSH's private keys, these are seeds; their public keys are lines of SSH all the same."""

    def _key(self, name):
        file = super()._key(name)
        key = NKey.of_ssh(file)
        file.write_text(key.seed + "\n")
        return file

    def nkey_of(self, key):
        nkey = super().nkey_of(key)
        # `cbus nkey` gives no NKey for a seed: it is a private key.
        refused = subprocess.run([BUILD / "cli/cbus", "nkey", "--public-key-file", key], capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and pathlib.Path(key).read_text().strip() not in refused.stdout + refused.stderr
        return nkey

    def prepare(self):
        operator = self.nkey_of(self.operator_key)
        self.nats.config = f"authorization {{ users: [ {{ nkey: {self.nkey} }}, {{ nkey: {operator} }} ] }}"


def test_links_and_logins_with_nkey_seeds():
    with Seeded() as stack:
        assert stack.call("Echo", "(v)", GLib.Variant("u", 1)) == (1,)
        for program, key in ((stack.agent, stack.machine_key), (stack.proxy, stack.operator_key)):
            assert key.read_text().strip() not in program.log()
        stack.stop()
