"""docs/faults.md is the index of the fault tests: every row is there, every named test exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROWS = re.findall(r"^\| (\d+) \|(.+)\|(.*)\|$", (ROOT / "docs/faults.md").read_text("utf-8"), re.M)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
}


def test_every_row_is_there_in_order():
    numbers = [int(row) for row, *_ in ROWS]
    assert sorted(numbers) == numbers and set(range(1, 62)) <= set(numbers)


def test_every_row_names_a_test_of_its_own():
    for row, _, named in ROWS:
        tests = re.findall(r"`(\w+)`", named)
        assert tests, row
        for name in tests:
            assert name in TESTS and f"r{int(row):02d}_" in name, name
