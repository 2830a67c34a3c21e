"""The clients people have, and mocked services of real machines, through the mirror: what they see is what the remote
bus itself answers, below another path."""
import contextlib
import os
import subprocess
import sys

import pytest
from gi.repository import Gio, GLib
from stack import NAME, TEST, Client, Program, wait_for

PATH = "/com/example/Test"
PROPERTIES = "org.freedesktop.DBus.Properties"


def run(stack, *argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": stack.session.address, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def test_busctl(stack):
    path = stack.path(below=PATH)
    tree = run(stack, "busctl", "--user", "--no-pager", "--list", "tree", NAME).split()
    for expected in (stack.machine, stack.path(), path + "/child/deeper", stack.path("com.example.Lazy")):
        assert expected in tree
    assert f'o "{path}/child"' in run(stack, "busctl", "--user", "call", NAME, path, TEST, "Child")
    run(stack, "busctl", "--user", "set-property", NAME, path, TEST, "Level", "u", "77")
    assert run(stack, "busctl", "--user", "get-property", NAME, path, TEST, "Level") == "u 77\n"
    described = run(stack, "busctl", "--user", "--no-pager", "introspect", NAME, path)
    assert ".Level" in described and ".Paths" in described and "soa{ov}" in described


def test_gdbus(stack):
    path = stack.path(below=PATH)
    told = run(stack, "gdbus", "call", "--session", "--dest", NAME, "--object-path", path, "--method", TEST + ".Echo",
               "<[1, 2]>")
    assert told == "(<[1, 2]>,)\n"
    described = run(stack, "gdbus", "introspect", "--session", "--recurse", "--dest", NAME, "--object-path", stack.path())
    assert f"node {path}/child/deeper" in described
    described = run(stack, "gdbus", "introspect", "--session", "--dest", NAME, "--object-path", "/ie/bmcgee/CBus")
    assert "ie.bmcgee.CBus1.Cluster" in described and f"node {stack.nkey}" in described
    described = run(stack, "gdbus", "introspect", "--session", "--dest", NAME, "--object-path", stack.machine)
    assert "ie.bmcgee.CBus1.Machine" in described and "Name = 'web1'" in described


def test_busctl_monitor(stack):
    argv = ["busctl", "--user", "--no-pager", "monitor", NAME]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": stack.session.address}) as monitor:
        try:
            assert "Monitoring bus message stream" in monitor.stdout.readline()
            stack.call("Emit", "(o)", "/x")
            seen = ""
            while seen.count("Member=Emitted") < 2:  # one for each name of the service
                line = monitor.stdout.readline()
                assert line, seen
                seen += line
            assert f"Path={stack.path(below=PATH)}" in seen and f"Path={stack.path('com.example.Two', PATH)}" in seen
        finally:
            monitor.kill()


def test_dbus_monitor_sees_a_call_and_its_reply(stack):
    argv = ["dbus-monitor", "--address", stack.session.address, "--monitor", "interface='com.example.Test'"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as monitor:
        try:
            while "NameLost" not in monitor.stdout.readline():
                pass
            stack.call("Child")
            line = ""
            while "member=Child" not in line:
                line = monitor.stdout.readline()
                assert line
            assert f"path={stack.path(below=PATH)};" in line
        finally:
            monitor.kill()


def test_dbus_send(stack):
    told = run(stack, "dbus-send", "--session", "--print-reply", f"--dest={NAME}", stack.path(below=PATH), TEST + ".SeenPath",
               "objpath:" + stack.path(below="/x/y"))
    assert 'string "/x/y"' in told


@pytest.fixture(scope="module", params=["logind", "networkmanager", "upower"])
def mock(request, shared):
    """A mocked service on the remote bus: (its name, the path of its mocked object)."""
    names = {"logind": ("org.freedesktop.login1", "/org/freedesktop/login1"),
             "networkmanager": ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"),
             "upower": ("org.freedesktop.UPower", "/org/freedesktop/UPower")}
    program = Program(request.param, shared.directory)
    program.spawn([sys.executable, "-m", "dbusmock", "--template", request.param],
                  env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": shared.remote.address,
                       "DBUS_SESSION_BUS_ADDRESS": shared.remote.address})
    name, path = names[request.param]
    try:
        wait_for(lambda: name in shared.property("Services"), f"{name}: {program.log()}")
        yield name, path
    finally:
        program.kill()


def translate(variant, prefix):
    """The values of VARIANT as the mirror shows them: PREFIX before each object path but '/'."""
    kind = variant.get_type_string()
    if kind == "o":
        path = variant.get_string()
        return path if path == "/" else prefix + path
    if kind == "v":
        return translate(variant.get_variant(), prefix)
    if kind.startswith("a{"):
        return {translate(entry.get_child_value(0), prefix): translate(entry.get_child_value(1), prefix)
                for entry in (variant.get_child_value(i) for i in range(variant.n_children()))}
    if kind.startswith(("a", "(")) and kind not in ("ay",):
        values = [translate(variant.get_child_value(i), prefix) for i in range(variant.n_children())]
        return tuple(values) if kind.startswith("(") else values
    return variant.unpack()


def raw(client, destination, path, interface, member, parameters=None):
    return client.connection.call_sync(destination, path, interface, member, parameters, None, 0, 15000, None)


def interfaces_of(client, destination, path):
    xml = client.call(destination, path, "org.freedesktop.DBus.Introspectable", "Introspect")[0]
    info = Gio.DBusNodeInfo.new_for_xml(xml)
    return {interface.name: interface for interface in info.interfaces}, {node.path for node in info.nodes}


def test_a_mocked_service_looks_as_on_its_own_bus(stack, mock):
    name, path = mock
    with contextlib.closing(Client(stack.remote.address)) as direct:
        there, _ = interfaces_of(direct, name, path)
        here, _ = interfaces_of(stack.client, NAME, stack.path(name, path))
        assert set(here) == set(there)
        for interface, described in there.items():
            mirrored = here[interface]
            assert {(m.name, tuple(a.signature for a in m.in_args), tuple(a.signature for a in m.out_args))
                    for m in described.methods} == {
                        (m.name, tuple(a.signature for a in m.in_args), tuple(a.signature for a in m.out_args))
                        for m in mirrored.methods}
            values = GLib.Variant("(s)", (interface,))
            with contextlib.suppress(GLib.Error):
                expected = raw(direct, name, path, PROPERTIES, "GetAll", values)
                seen = raw(stack.client, NAME, stack.path(name, path), PROPERTIES, "GetAll", values)
                assert seen.unpack() == translate(expected, stack.path(name, "/"))


@pytest.mark.parametrize("mock", ["upower"], indirect=True)
def test_a_mocked_object_appears_with_its_signal(stack, mock):
    name, path = mock
    client = stack.new_client()
    client.watch("org.freedesktop.UPower", "DeviceAdded")
    stack.introspect(stack.path(name))
    added = stack.client.call(NAME, stack.path(name, path), "org.freedesktop.DBus.Mock", "AddAC", "(ss)", "mock_AC", "Mock AC")[0]
    device = stack.path(name, "/org/freedesktop/UPower/devices/mock_AC")
    client.wait(lambda: any(s[3][0] == device for s in client.signals), "DeviceAdded")
    assert added == "/org/freedesktop/UPower/devices/mock_AC"
    assert stack.client.call(NAME, device, PROPERTIES, "Get", "(ss)", "org.freedesktop.UPower.Device", "Online") == (True,)
    assert "org.freedesktop.UPower.Device" in stack.introspect(device)
    client.close()
