"""Counts of what the tests went through, for docs/reliability.md; kept only when somebody asks for them."""

import json
import os
from collections import Counter
from pathlib import Path


def tally(what: str, count: int) -> None:
    """Adds to a count in the file that ``ASYNC_COMFY_TALLY`` names, if it names one."""
    name = os.environ.get("ASYNC_COMFY_TALLY")
    if name is None:
        return
    path = Path(name)
    counts = Counter(json.loads(path.read_text()) if path.exists() else {})
    counts[what] += count
    path.write_text(json.dumps(counts, indent=1))
