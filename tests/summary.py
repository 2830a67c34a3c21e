"""Adds up what tests/check gathered: JUnit files of meson and pytest, and the single steps. Exit 1 if anything failed."""
import pathlib
import re
import sys
import xml.etree.ElementTree


def read(file):
    """The cases in FILE. meson copies what tests print as it is, control characters, which XML has not, among it."""
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "?", file.read_text(encoding="utf-8", errors="replace"))
    return list(xml.etree.ElementTree.fromstring(text.encode()).iter("testcase"))


def main():
    directory = pathlib.Path(sys.argv[1])
    passed, failed, skipped = 0, [], []
    for file in sorted(directory.glob("*.xml")):
        cases = read(file)
        if not cases:
            failed.append(f"{file.stem}: no test ran")
        for case in cases:
            name = f"{file.stem}: {case.get('classname', '')} {case.get('name', '')}"
            reason = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(name)
            elif reason is not None:
                skipped.append(f"{name}: {reason.get('message') or (reason.text or '').strip() or 'no reason given'}")
            else:
                passed += 1
    steps = directory / "steps"
    for line in steps.read_text().splitlines() if steps.exists() else []:
        verdict, _, rest = line.partition(" ")
        if verdict == "pass":
            passed += 1
        elif verdict == "skip":
            skipped.append(rest)
        else:
            failed.append(rest)
    for line in skipped:
        print(f"skipped {line}")
    for line in failed:
        print(f"FAILED {line}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
