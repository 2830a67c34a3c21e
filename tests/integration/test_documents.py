"""What the documents say of the tests is so: each one that docs/threat-model.md names exists."""
import pathlib
import re

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
