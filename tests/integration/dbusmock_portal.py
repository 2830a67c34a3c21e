"""Runs test files of python-dbusmock with their mocks on one bus and everything else on another.

    dbusmock_portal.py REMOTE PORTAL FILE[:CLASS]…

Mocks are spawned on REMOTE; what the tests do themselves, and every client program that they run, goes to PORTAL. Neither
bus is started or stopped by them.
"""
import contextlib
import importlib.util
import os
import pathlib
import sys
import unittest

import dbusmock

REMOTE, PORTAL = sys.argv[1:3]
BUSES = ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS")


@contextlib.contextmanager
def on(address):
    before = {name: os.environ.get(name) for name in BUSES}
    os.environ.update({name: address for name in BUSES})
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value:
            os.environ[name] = value


def on_remote(function):
    """A class method whose children are on REMOTE."""
    def call(cls, *args, **kwargs):
        spawned = function.__func__

        with on(REMOTE):
            return spawned(cls, *args, **kwargs)
    return classmethod(call)


def main():
    case = dbusmock.DBusTestCase
    case.start_session_bus = case.start_system_bus = classmethod(lambda cls: os.environ.update({name: PORTAL for name in BUSES}))
    case.tearDownClass = classmethod(lambda cls: None)
    case.spawn_server = on_remote(vars(case)["spawn_server"])
    case.spawn_server_template = on_remote(vars(case)["spawn_server_template"])
    suite = unittest.TestSuite()
    for argument in sys.argv[3:]:
        path, _, name = argument.partition(":")
        file = pathlib.Path(path)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        load = unittest.defaultTestLoader
        suite.addTests(load.loadTestsFromName(name, module) if name else load.loadTestsFromModule(module))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    sys.exit(0 if result.wasSuccessful() else 1)


main()
