"""Runs everything that is counted and writes the counts: `make reliability`.

    python -m benchmarks.reliability [--quick]

Runs tests/live/reliability with 10,000 seeds and 10,000 jobs (``--quick``: as `make test` does) and writes
what was gone through into docs/reliability.md, and only where all of it passed.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.section import replace_section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
SOAK = {"ASYNC_COMFY_SEEDS": "10000", "ASYNC_COMFY_FLEET": "10000x20"}


def main() -> None:
    """Runs, and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.json"
        more = {} if "--quick" in sys.argv else SOAK
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/live/reliability"],
            check=True,
            cwd=ROOT,
            env={**os.environ, **more, "ASYNC_COMFY_TALLY": str(counts)},
        )
        replace_section(PAGE, "counts", table(json.loads(counts.read_text())))


def table(counts: dict[str, int]) -> str:
    """As Markdown, in the order in which they were counted."""
    rows = [f"| {what} | {count:,} |" for what, count in counts.items()]
    return "\n".join(["| what | how many |", "|---|---:|", *rows])


if __name__ == "__main__":
    main()
