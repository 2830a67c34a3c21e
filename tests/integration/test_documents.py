"""What the documents say is so: the tests that docs/threat-model.md names exist, and the options of the manual pages."""
import os
import pathlib
import re
import subprocess

import pytest
from stack import BUILD

TOP = pathlib.Path(__file__).resolve().parents[2]
TEXT = (TOP / "docs" / "threat-model.md").read_text()


def test_each_attack_names_tests_that_exist():
    named = 0
    for room, file, case in re.findall(r"`(integration|machines)/(test_\w+\.py)::(\w+)`", TEXT):
        assert f"def {case}(" in (TOP / "tests" / room / file).read_text(), (room, file, case)
        named += 1
    for file, case in re.findall(r"`(test-[a-z-]+)/([A-Za-z0-9_-]+)`", TEXT):
        source = (TOP / "tests" / "unit" / f"{file}.c").read_text()
        assert re.search(rf'["/(]{re.escape(case)}["),]', source), (file, case)
        named += 1
    assert named > 80


def test_each_attack_has_a_test():
    rows = [line for line in TEXT.split("\n") if line.startswith("| ") and line.count("|") == 4 and "---" not in line]
    attacks = [row for row in rows if not row.startswith(("| attack", "| who")) and " trusted with " not in row]
    for row in attacks:
        section = TEXT[:TEXT.index(row)].rsplit("\n## ", 1)[1].split("\n", 1)[0]
        assert section == "Who is trusted with what" or "`" in row.split("|")[3], row


def options_of(program, *verb):
    """Those that --help shows; and it shows them in the user's character set."""
    text = subprocess.run([BUILD / program, *verb, "--help"], check=True, capture_output=True, text=True, encoding="utf-8",
                          env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
    assert "?" not in text
    return set(re.findall(r"--([a-z][a-z-]+)", text))


def options_in(page):
    return set(re.findall(r"--([a-z][a-z-]+)", (TOP / "docs" / page).read_text().replace("\\-", "-")))


@pytest.mark.parametrize("name", ["agent", "proxy"])
def test_the_daemons_pages_have_their_options(name):
    assert options_in(f"cbus-{name}.8") == options_of(f"{name}/cbus-{name}") | {"version"}


def test_the_command_lines_page_has_its_options():
    verbs = re.findall(r"^  ([a-z]+) ", subprocess.run([BUILD / "cli/cbus", "--help"], check=True, capture_output=True,
                                                       text=True, encoding="utf-8").stdout, re.MULTILINE)
    assert len(verbs) >= 9
    assert options_in("cbus.1") - {"user"} == {"version"}.union(  # --user is busctl's
        *(options_of("cli/cbus", verb) for verb in verbs))
    page = (TOP / "docs" / "cbus.1").read_text()
    assert all(f".SS {verb}\n" in page and f".B cbus {verb}\n" in page for verb in verbs)
