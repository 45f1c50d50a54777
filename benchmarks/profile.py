"""Where a prompt's CPU goes, put together from the other cases: what we spend, and what the limit spends."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks import posts, receive, traffic
from benchmarks.receive import Frames, RawBytes, Unwatched, Watched
from benchmarks.tables import Table

_LIKE = {"execution_start": "executing", "execution_cached": "executing", "execution_success": "executing"}
AT_ONCE = "32"


def messages() -> Counter[str]:
    """How many of each kind a prompt brings, the rare ones counted as the kind that they are most like."""
    kinds = [json.loads(message)["type"] for group in traffic.run() for message in group]
    return Counter(_LIKE.get(kind, kind) for kind in [*kinds, "status", "status"])


def table(results: Mapping[str, Any]) -> Table | None:
    """Microseconds a prompt, by part; None where one of the cases was not measured yet."""
    if posts.NAME not in results or receive.NAME not in results:
        return None
    post = results[posts.NAME]["us"][AT_ONCE]
    rows: list[tuple[str, float, float | None]] = [
        ("POST /prompt", post["courier"], post["aiohttp"]),
        (
            "the rest of a submission: encode, register, read the answer",
            post["submit"] - post["courier"],
            None,
        ),
    ]
    for pace, measured in results[receive.NAME]["cpu_us"].items():
        spent = {
            each.name: sum(count * measured[kind][each.name] for kind, count in messages().items())
            for each in (RawBytes, Frames, Unwatched, Watched)
        }
        raw, frames, unwatched, watched = spent.values()
        rows += [
            (f"reading 61 messages, {pace}", raw, raw),
            (f"cutting their frames, {pace}", frames - raw, None),
            (f"telling whose they are, keeping their life, {pace}", unwatched - frames, None),
            (f"decoding all and waking a task, {pace}", watched - unwatched, None),
        ]
    note = f"POSTs with {AT_ONCE} at once. A run as recorded lies between one message at a time and a burst."
    return Table("Where the CPU of a prompt goes, us", ["part", "ours", "the limit's"], rows, note)
