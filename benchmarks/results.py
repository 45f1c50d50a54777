"""Results as JSON: one file per case in benchmarks/results/."""

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import described

FOLDER = Path(__file__).parent / "results"


def store(case: str, result: dict[str, Any]) -> None:
    """Writes a case's figures, with machine, versions and date."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"case": case, **described(), "result": _rounded(result)}, indent=1)
    (FOLDER / f"{case}.json").write_text(text + "\n")


def stored(case: str) -> dict[str, Any] | None:
    """What was last written for a case."""
    path = FOLDER / f"{case}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
