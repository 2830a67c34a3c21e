"""The gateway, driven by NATS's own client: calls, properties, and every refusal with its code and cause."""
import subprocess
import time

import pytest

from gateway import HIDDEN, NAMES, ONE, PATH, TYPED, TYPED_PATH, Gateway
from stack import Client, wait_for
from typed_service import EVERYTHING

DBUS = "org.freedesktop.DBus"
ERROR = DBUS + ".Error."

# A value of each type, as the gateway writes it.
VALUES = [255, True, -32768, 65535, -2147483648, 4294967295, "-9223372036854775808", "18446744073709551615", 0.5,
          "ä😀\"\\\n", "/a/b", "a{sv}", {"type": "(sv)", "data": ["x", {"type": "b", "data": False}]},
          {"deep": {"type": "a{sv}", "data": {"er": {"type": "ai", "data": [1, -1]}}}}, [-5, ["p", "q"]], [0, 127, 255],
          [[1, "one"], [2, "two"]], {"/o": {"k": {"type": "x", "data": 9007199254740992}}}]


@pytest.fixture(scope="module")
def gateway():
    with Gateway() as running:
        yield running
        running.stop()


def typed(gateway, member, arguments="", path=TYPED_PATH, **headers):
    return gateway.call(member, arguments, TYPED, path, **headers)


def refused(answer, code, name, *words):
    """The answer is this error, told in all three ways."""
    assert answer.code == code, answer
    assert answer.json["error"] == name and answer.error.startswith(name + ": "), answer
    for word in words:
        assert word in answer.json["message"], answer
    assert "\n" not in answer.error


def test_a_method_is_called(gateway):
    answer = gateway.call("Echo", [{"type": "s", "data": "x"}])
    assert (answer.code, answer.json) == (200, [{"type": "s", "data": "x"}]), answer
    assert answer.headers == {"NKey": gateway.nkey, "Signature": "v"}


def test_every_type_goes_there_and_back(gateway):
    answer = typed(gateway, "Everything", VALUES)
    assert answer.code == 200, answer
    assert answer.json == VALUES
    assert answer.headers["Signature"] == EVERYTHING
    # Numbers as such, where they fit.
    plain = [*VALUES]
    plain[6:8] = [-9223372036854775808, 18446744073709551615]
    assert typed(gateway, "Everything", plain).json == VALUES


def test_an_empty_request_has_no_arguments(gateway):
    for arguments in ("", "[]", " [ ] "):
        assert gateway.call("Child", arguments).json == [PATH + "/child"]


def test_properties_are_read(gateway):
    answer = gateway.get("Level")
    assert (answer.text, answer.headers) == ("1", {"NKey": gateway.nkey, "Signature": "u"})
    answer = gateway.get("With_Line", TYPED, TYPED_PATH)
    assert (answer.text, answer.headers["Signature"]) == ('"18446744073709551615"', "t")
    answer = gateway.get("Values", TYPED, TYPED_PATH)
    assert (answer.json, answer.headers["Signature"]) == ({"a": {"type": "s", "data": "b"}}, "a{sv}")
    refused(gateway.plain.request(gateway.subject("Level", kind="prop"), "[7]"), 400, ERROR + "InvalidArgs", "Set")
    refused(gateway.get("Nothing"), 404, ERROR + "UnknownProperty", "no property Nothing")


def test_properties_are_set_by_calling_set(gateway):
    value = {"type": "a{sv}", "data": {"b": {"type": "u", "data": 2}}}
    assert typed(gateway, "Set", [TYPED, "Values", value]).json == []
    assert gateway.get("Values", TYPED, TYPED_PATH).json == value["data"]
    assert typed(gateway, "Set", [TYPED, "Values", {"type": "a{sv}", "data": {"a": {"type": "s", "data": "b"}}}]).json == []


def test_several_interfaces_have_to_be_told_apart(gateway):
    refused(typed(gateway, "Which"), 409, ERROR + "InvalidArgs", "com.example.Typed.Which", "com.example.Other.Which")
    for interface in ("com.example.Typed", "com.example.Other"):
        assert typed(gateway, "Which", Interface=interface).json == [f"{interface} at {TYPED_PATH}"]
        assert gateway.get("Which", TYPED, TYPED_PATH, Interface=interface).json == interface
    refused(gateway.get("Which", TYPED, TYPED_PATH), 409, ERROR + "InvalidArgs", "com.example.Other.Which")
    refused(typed(gateway, "Which", Interface="no interface"), 400, ERROR + "InvalidArgs", "Interface")
    refused(typed(gateway, "Two", [1], Interface="com.example.Other"), 404, ERROR + "UnknownMethod", "com.example.Other.Two")


def test_the_root_object_has_no_path_in_its_subject(gateway):
    assert gateway.subject("Which", TYPED, "/").endswith(".com_example_Typed.method.Which")
    assert typed(gateway, "Which", path="/").json == ["com.example.Other at /"]


def test_signature_and_interface_spare_the_introspection(gateway):
    headers = {"Interface": TYPED, "Signature": "s"}
    assert typed(gateway, "Text", ["x"], **headers).json == ["x"]
    # The service sees what the header says.
    refused(typed(gateway, "Text", [7], Interface=TYPED, Signature="i"), 400, ERROR + "InvalidArgs", "(i)")
    refused(typed(gateway, "Text", [7], Signature="i"), 400, ERROR + "InvalidArgs", "(i)")
    for wrong in ("a{", "h", "ü"):
        refused(typed(gateway, "Text", ["x"], Signature=wrong), 400, ERROR + "InvalidArgs", "Signature")


@pytest.mark.parametrize("arguments, words", [
    ("", ["too few", '"su"']),
    ('["a"]', ["too few"]),
    ('["a",1,2]', ["too many"]),
    ('["a",-1]', ["-1] is no value of type u"]),
    ('["a",1.0]', ["1.0] is no value of type u"]),
    ("[1,1]", ["no value of type s"]),
    ("[null,1]", ["null,1] is no value of type s"]),
    ('{"a":1}', ["no array"]),
    ('["a",1', ["missing"]),
    ('["a',  ["without end"]),
    ("nonsense", ["no array"]),
    ('["\\ud800",1]', ["surrogate"]),
    ('["\\u0000",1]', ["NUL"]),
    ("[" * 100000, ["no value of type s"]),
])
def test_wrong_arguments_are_refused_with_the_place(gateway, arguments, words):
    refused(typed(gateway, "Two", arguments), 400, ERROR + "InvalidArgs", *words)


def test_what_is_not_there(gateway):
    refused(gateway.call("Echo", service="com.example.Nobody"), 404, ERROR + "ServiceUnknown", "com_example_Nobody")
    answer = gateway.call("Echo", path="/nowhere")
    assert answer.code == 404 and "no method Echo" in answer.json["message"], answer
    refused(gateway.call("Nothing"), 404, ERROR + "UnknownMethod", "no method Nothing")
    refused(gateway.call("Nothing", Interface="com.example.Test"), 404, ERROR + "UnknownMethod")


@pytest.mark.parametrize("rest", ["", "x", "com_example_One", "com_example_One.method", "method.Echo", "com_example_One.a.call.Echo",
                                  "com_example_One.a-b.method.Echo", "com_example_One.a.method.1Echo",
                                  "com_example_One.method.Ec-ho", "com_example_One..method.Echo"])
def test_subjects_that_are_none(gateway, rest):
    if ".." in rest or not rest:
        return  # the server refuses these itself
    refused(gateway.plain.request(f"dbus.agent.{gateway.nkey}.{rest}"), 400, ERROR + "InvalidArgs", "the subject")


def test_a_name_that_a_subject_can_not_tell_is_refused(gateway):
    refused(gateway.call("Which", service="com.example.a.b", path="/"), 409, ERROR + "InvalidArgs", NAMES[1], NAMES[2])


def test_unique_names_and_names_that_start_a_service(gateway):
    client = Client(gateway.remote.address)
    unique = client.call(DBUS, "/org/freedesktop/DBus", DBUS, "GetNameOwner", "(s)", ONE)[0]
    client.close()
    assert gateway.call("Child", service=unique).json == [PATH + "/child"]
    assert gateway.call("Child", service="com.example.Lazy").json == [PATH + "/child"]


def test_the_policy_decides(gateway):
    hidden = gateway.call("Which", service=HIDDEN, path="/")
    refused(hidden, 404, ERROR + "ServiceUnknown")
    nobody = gateway.call("Which", service="org.example.Nobody", path="/")
    assert hidden.text == nobody.text.replace("Nobody", "Hidden")
    names = gateway.call("ListNames", service=DBUS, path="/org/freedesktop/DBus").json[0]
    assert TYPED in names and HIDDEN not in names
    refused(gateway.call("ReloadConfig", service=DBUS, path="/org/freedesktop/DBus"), 403, ERROR + "AccessDenied",
            "policy plain does not allow it", f"call={DBUS}={DBUS}.ReloadConfig")


def test_errors_of_a_service_come_back(gateway):
    refused(gateway.call("Fail", ["com.example.Error.Odd"]), 500, "com.example.Error.Odd", "failed as told")
    refused(gateway.call("Fail", [ERROR + "LimitsExceeded"]), 429, ERROR + "LimitsExceeded", "failed as told")
    refused(gateway.call("Give"), 501, ERROR + "NotSupported", "descriptors")


def test_sizes_are_bounded(gateway):
    assert gateway.call("Length", [[7] * 100000]).json == [100000]
    refused(gateway.call("Length", [[7] * 200000]), 413, ERROR + "LimitsExceeded", "256 KiB")
    assert len(gateway.call("Bytes", [400000]).json[0]) == 400000
    refused(gateway.call("Bytes", [600000]), 413, ERROR + "LimitsExceeded", "larger than a NATS message")
    refused(gateway.call("Bytes", [20000000]), 413, ERROR + "LimitsExceeded", "larger than a NATS message")


def test_nobody_has_to_want_an_answer(gateway):
    gateway.plain.publish(gateway.subject("Notify"), '["by post"]')
    wait_for(lambda: "by post" in gateway.call("Notified").json[0], "the note")


def test_an_answer_is_never_a_request(gateway):
    """Else a client could have the agent publish where only the agent may."""
    before = gateway.plain.request("$SRV.STATS.cbus").json["endpoints"][0]["num_errors"]
    note = gateway.plain.subscribe(f"dbus.agent.{gateway.nkey}.com_example_One.>")
    for reply in (gateway.subject("Notify"), "$SRV.PING", f"cbus.v1.{gateway.nkey}.in"):
        gateway.plain.publish(gateway.subject("Notify"), '["never executed"]', reply)
        note()
    wait_for(lambda: gateway.plain.request("$SRV.STATS.cbus").json["endpoints"][0]["num_errors"] >= before + 3, "the refusals")
    assert "never executed" not in gateway.call("Notified").json[0]


def test_an_error_text_makes_no_headers(gateway):
    text = "one\r\nKey: two\r\n\r\nthree \u00e4" + "x" * 5000
    answer = typed(gateway, "FailWith", [text, 1])
    assert answer.json == {"error": "com.example.Error.Odd", "message": text}
    assert set(answer.headers) == {"NKey", "Nats-Service-Error", "Nats-Service-Error-Code"}
    assert answer.error.startswith("com.example.Error.Odd: one??Key: two????three ??x") and len(answer.error) == 1024


def test_an_error_text_that_is_too_long_leaves_the_name(gateway):
    answer = typed(gateway, "FailWith", ["x", 200000])
    assert (answer.code, answer.json["message"]) == (500, "x" * 200000)
    answer = typed(gateway, "FailWith", ["x", 2000000])
    assert (answer.code, answer.json) == (500, {"error": "com.example.Error.Odd"}) and answer.error.endswith("xxx")


def test_what_it_may_do_can_be_asked_before(gateway):
    def ask(*question):
        done = subprocess.run([str(o) for o in gateway.check_options("--check-policy", "gateway", *question)], text=True,
                              capture_output=True, check=False, timeout=20)
        return done.returncode, done.stdout + done.stderr

    status, text = ask(ONE, PATH, "com.example.Test", "Echo")
    assert status == 0 and "allowed by policy plain" in text and "talk=com.example.*" in text, text
    status, text = ask(HIDDEN, "/", TYPED, "Which")
    assert status == 1 and "denied (as if it did not exist) by policy plain" in text, text


def test_acts_are_recorded_as_the_gateways(gateway):
    gateway.call("SeenPath", ["/secret/argument"])
    wait_for(lambda: "gateway called com.example.Test.SeenPath on com.example.One /com/example/Test" in gateway.agent.log(),
             "the record")
    gateway.call("ReloadConfig", service=DBUS, path="/org/freedesktop/DBus")
    wait_for(lambda: f"gateway was denied to call {DBUS}.ReloadConfig" in gateway.agent.log(), "the denial")
    log = gateway.agent.log()
    assert "gateway opened a channel" in log and "proxy=gateway" in log
    assert "/secret/argument" not in log
    # The gateway's own questions are nobody's acts.
    assert "ListActivatableNames" not in log and "called org.freedesktop.DBus.AddMatch" not in log


def stats_of(gateway):
    return gateway.plain.request(f"$SRV.STATS.cbus.{gateway.nkey}").json["endpoints"][0]


class Impatient(Gateway):
    settings = Gateway.settings + "timeout=6\n"


@pytest.fixture
def impatient():
    with Impatient() as running:
        yield running
        running.stop()


def test_calls_that_hang_are_ended_and_counted(impatient):
    began = time.monotonic()
    hanging = [impatient.plain.begin("request", impatient.subject("Hang")) for _ in range(48)]
    wait_for(lambda: stats_of(impatient)["data"]["in_flight"] == 48, "all of them to be under way", 5.5)
    busy = impatient.plain.request(impatient.subject("Child"))
    refused(busy, 429, ERROR + "LimitsExceeded", "too many requests")
    for number in hanging:
        refused(impatient.plain.end(number)[0], 504, ERROR + "NoReply", "within 6 s", "not known")
    assert time.monotonic() - began < 30
    # They still wait on the bus: the connection is made anew, and the service sees them go.
    wait_for(lambda: "the connection is made anew" in impatient.agent.log(), "a new connection")
    wait_for(impatient.is_served, "calls again")
    stats = stats_of(impatient)
    assert stats["num_errors"] >= 49 and stats["data"]["in_flight"] == 0
    assert stats["num_requests"] > stats["num_errors"]
