"""cbus on a bus that goes, at each step of its start and of its waiting: it ends at once, says why and hides nothing."""
import contextlib
import os
import subprocess

import pytest
from dying_bus import DyingBus
from stack import BUILD

NKEY = "UAWEB1" + "A" * 50
OBJECT = ("com.example.One", "/com/example/Test")
VERBS = {
    "machines": ["machines", "--timeout", "60"],
    "machines-wait": ["machines", "--wait", "2", "--timeout", "60"],
    "machines-watch": ["machines", "--watch"],
    "monitor": ["monitor"],
    "wait": ["wait", *OBJECT, "com.example.Test.Level", "2", "--timeout", "60"],
    "wait-looks-up": ["wait", *OBJECT, "Level", "2", "--timeout", "60"],
    "wait-no-more": ["wait", *OBJECT, "com.example.Test.Level", "1", "--timeout", "60"],
    "get": ["get", *OBJECT, "com.example.Test.Level", "--timeout", "60"],
    "get-looks-up": ["get", *OBJECT, "Level", "--timeout", "60"],
    "invoke": ["invoke", *OBJECT, "com.example.Test.Reset", "--timeout", "60"],
    "invoke-looks-up": ["invoke", *OBJECT, "Reset", "--timeout", "60"],
    "run": ["run", "web1", "--", "true"],
}
# What each asks in order; (member, number): the bus goes at that one.
ROSTER = ("GetManagedObjects", 1)
HELLO = ("Hello", 1)
RULES = [("AddMatch", number) for number in (1, 2, 3)]
STEPS = {
    "machines": [HELLO, ROSTER],
    "machines-wait": [HELLO, *RULES, ROSTER],
    "machines-watch": [HELLO, *RULES, ROSTER, ("GetManagedObjects", 2)],
    "monitor": [HELLO, ROSTER, *RULES, ("AddMatch", 4), ("GetManagedObjects", 2)],
    "wait": [HELLO, ROSTER, *RULES, ("AddMatch", 4), ("Get", 1)],
    "wait-looks-up": [HELLO, ROSTER, ("Introspect", 1), *RULES, ("Get", 1)],
    "wait-no-more": [("Get", 1)],
    "get": [HELLO, ROSTER, ("Get", 1)],
    "get-looks-up": [HELLO, ROSTER, ("Introspect", 1), ("Get", 1)],
    "invoke": [HELLO, ROSTER, ("Reset", 1)],
    "invoke-looks-up": [HELLO, ROSTER, ("Introspect", 1), ("Reset", 1)],
    "run": [HELLO, ROSTER],
}
# The last answer, which is all that these want: the bus may go.
ENOUGH = {"machines": ROSTER, "wait-no-more": ("Get", 1), "get": ("Get", 1), "get-looks-up": ("Get", 1), "invoke": ("Reset", 1),
          "invoke-looks-up": ("Reset", 1)}


# With its answer run has all it wants of the bus, and goes on to the portal.
CASES = [(verb, step, answers) for verb in VERBS for step in STEPS[verb] for answers in (True, False)
         if (verb, step, answers) != ("run", ROSTER, True)]


@pytest.mark.parametrize(("verb", "step", "answers"), CASES,
                         ids=[f"{verb}-{member}-{number}-{'answered' if answers else 'unanswered'}"
                              for verb, (member, number), answers in CASES])
def test_a_verb_ends_with_its_bus(tmp_path, verb, step, answers):
    with contextlib.closing(DyingBus(tmp_path, NKEY, *step, answers)) as bus:
        done = subprocess.run([BUILD / "cli/cbus", *VERBS[verb]], capture_output=True, text=True, timeout=20, check=False,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "CBUS_BUS": bus.address})
        assert bus.left == 0, bus.seen
    assert "CRITICAL" not in done.stderr and "WARNING" not in done.stderr
    if answers and step == ENOUGH.get(verb):
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode in ((255,) if verb == "run" else (1, 3)), done
    assert any(word in done.stderr for word in ("closed", "reach the bus", "the bus went", "EOF")), done.stderr
    assert len(done.stderr.splitlines()) <= 3, done.stderr
