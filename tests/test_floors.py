"""The oldest versions that we promise to run with are those that the tests can be run with."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_is_tested_as_oldest_is_what_is_promised() -> None:
    """pyproject.toml and constraints-lowest.txt name the same packages and versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {
        _numbers(line)
        for lines in (project["dependencies"], *project["optional-dependencies"].values())
        for line in lines
    }
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tested = {_numbers(line) for line in lines if "==" in line}
    assert promised
    assert promised <= tested


def _numbers(line: str) -> tuple[str, tuple[int, ...]]:
    found = re.fullmatch(r"([a-z0-9-]+)[>=]=([0-9.]+)", line)
    assert found is not None, f"{line}: a package and one version, please"
    numbers = [int(part) for part in found[2].split(".")]
    return found[1], tuple(numbers + [0] * (3 - len(numbers)))
