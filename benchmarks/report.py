"""Runs the cases; prints their tables, or writes docs/benchmarks.md with its plots."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import (
    connections,
    crowd,
    events,
    growth,
    guard,
    posts,
    previews,
    profile,
    prompts,
    receive,
    rivals,
    targets,
    transfers,
)
from benchmarks.chart import svg
from benchmarks.results import store, stored

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
PLOTS = DOCS / "benchmarks"
_BY_HAND = "<!-- by hand from here on -->"

CASES: dict[str, ModuleType] = {
    case.NAME: case
    for case in (
        events,
        posts,
        prompts,
        rivals,
        receive,
        crowd,
        connections,
        transfers,
        previews,
        growth,
        guard,
    )
}
QUICK = (events.NAME, prompts.NAME)


def quick(only: Sequence[str] | None) -> int:
    """Prints; changes no file."""
    for name in only or QUICK:
        result = _timed(name, quick=True)
        print("\n\n".join(table.text() for table in CASES[name].tables(result)), "\n", flush=True)
    return 0


def full(only: Sequence[str] | None) -> int:
    """Stores each case as it is done, then writes the page from all that is stored."""
    for name in only or CASES:
        result = _timed(name, quick=False)
        store(name, result)
        print("\n\n".join(table.text() for table in CASES[name].tables(result)), "\n", flush=True)
    write_page()
    return 0


def write_page() -> None:
    """docs/benchmarks.md: figures from the results; what was written by hand at its end stays."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    results = {name: found for name in CASES if (found := stored(name)) is not None}
    goals = targets.table({name: found["result"] for name, found in results.items()})
    parts = [_head(), goals.markdown().replace("### ", "## ", 1)]
    for name, found in results.items():
        case = CASES[name]
        said = (case.__doc__ or "").strip()
        parts.append(f"## {name.capitalize()}\n\n{said}\n\n*{_place(found)}*")
        for table in case.tables(found["result"]):
            parts.append(table.markdown())
            if table.bars:
                (PLOTS / f"{table.bars.file}.svg").write_text(svg(table.bars))
    if (parted := profile.table({name: found["result"] for name, found in results.items()})) is not None:
        parts.append(parted.markdown().replace("### ", "## ", 1))
    by_hand = PAGE.read_text().partition(_BY_HAND)[2] if PAGE.exists() else "\n"
    PAGE.write_text("\n\n".join(parts) + f"\n\n{_BY_HAND}{by_hand}")


def _timed(name: str, *, quick: bool) -> dict[str, Any]:
    begun = time.perf_counter()
    result: dict[str, Any] = CASES[name].measure(quick)
    print(f"[{name}: {time.perf_counter() - begun:.0f} s]", flush=True)
    return result


def _head() -> str:
    return (
        "# Benchmarks\n\n"
        "Written by `make bench-full`; the figures lie in `benchmarks/results/` as JSON. Servers run in\n"
        "another process on another core and speak pre-encoded frames; contestants take turns in one\n"
        "process, in changing order, and every figure is a median. CPU is the client process's own\n"
        "(`time.process_time`). A prompt is 61 messages of 32 KB together, as a real server sent them."
    )


def _place(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return f"{found['date']}, {found['machine']}, Python {found['python']}, {versions}"
