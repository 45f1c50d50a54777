"""What to do after an attempt that did not complete: again, where, or stop. A job is never at two servers.

What had not begun is placed again: it cost nothing. What had begun runs again only if its caller said so,
and what nobody can tell about only if its caller gave a number. A job that was running when two servers
died is taken for their killer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Retry = Literal["never", "if_lost"] | int
"""When what had begun runs again: "if_lost": its server lost it; a number: so often, whatever failed."""

POISON = 2  # servers that may die while a job runs there
UNREACHED = 20  # attempts that may not reach a server that is connected, until the last error is told
UNBEGUN = 5  # times that it may be placed again without ever having begun: then something else is wrong
LACKS = "that server does not have what it needs"


class Ending(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    REJECTED = "rejected"  # for what is wrong with the prompt
    LACKING = "lacking"  # rejected for what this server does not have
    CANCELLED = "cancelled"
    LOST = "lost"  # its server died or forgot it
    STALLED = "stalled"  # no sign of life; it was stopped
    AMBIGUOUS = "ambiguous"
    UNREACHED = "unreached"  # it never got there


@dataclass(frozen=True, slots=True)
class Attempt:
    """One placement and its end.

    `begun`: it may have run. `vram_bytes`: the server's, 0 where unknown. `prompt_id`: empty where it
    was never sent.
    """

    server: str
    ending: Ending
    begun: bool = False
    vram_bytes: int = 0
    prompt_id: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """Place it once more.

    `free`: unload that server's models first. `above_bytes`: only where there is more VRAM than this.
    """

    why: str
    server: str | None = None
    without: frozenset[str] = frozenset()
    above_bytes: int = 0
    free: bool = False


def after(attempts: Sequence[Attempt], retry: Retry) -> Again | None:
    """What follows the last of these attempts; None: its end is the job's."""
    last = attempts[-1]
    match last.ending:
        case Ending.OUT_OF_MEMORY:
            return _after_memory(attempts, retry)
        case Ending.LACKING:
            return Again(LACKS, without=_servers(attempts, Ending.LACKING))
        case Ending.UNREACHED:
            unreached = sum(one.ending is Ending.UNREACHED for one in attempts)
            return Again("it never reached that server") if unreached <= UNREACHED else None
        case Ending.LOST | Ending.STALLED:
            return _after_loss(attempts, retry)
        case Ending.FAILED | Ending.AMBIGUOUS if _asked(attempts, retry):
            return Again("its caller asked for another attempt", without=frozenset({last.server}))
        case _:
            return None


def without_a_bigger_card(attempts: Sequence[Attempt], retry: Retry) -> Again | None:
    """What follows where no server has the VRAM that `after` asks for: elsewhere, while the number lasts."""
    if not _asked(attempts, retry):
        return None
    return Again("its caller asked for another attempt", without=_servers(attempts, Ending.OUT_OF_MEMORY))


def is_poison(attempts: Sequence[Attempt]) -> bool:
    """Whether so many servers died under it that it is taken for the cause."""
    return len({one.server for one in attempts if one.begun and one.ending is Ending.LOST}) >= POISON


def _after_loss(attempts: Sequence[Attempt], retry: Retry) -> Again | None:
    last = attempts[-1]
    if not last.begun:
        unbegun = sum(one.ending in {Ending.LOST, Ending.STALLED} and not one.begun for one in attempts)
        return Again("its server died or stalled before it began") if unbegun <= UNBEGUN else None
    if is_poison(attempts) or not (retry == "if_lost" or _asked(attempts, retry)):
        return None
    return Again("its server lost it", without=frozenset({last.server}))


def _after_memory(attempts: Sequence[Attempt], retry: Retry) -> Again | None:
    last = attempts[-1]
    here = sum(one.server == last.server and one.ending is Ending.OUT_OF_MEMORY for one in attempts)
    if here == 1:
        return Again("out of memory: once more with the models unloaded", server=last.server, free=True)
    if last.vram_bytes:
        return Again("out of memory: on a bigger card", above_bytes=last.vram_bytes)
    return Again("its caller asked for another attempt") if _asked(attempts, retry) else None


def _asked(attempts: Sequence[Attempt], retry: Retry) -> bool:
    """Whether the caller's number is not used up: executions beyond the first."""
    return isinstance(retry, int) and sum(one.begun for one in attempts) <= retry


def _servers(attempts: Sequence[Attempt], ending: Ending) -> frozenset[str]:
    return frozenset(one.server for one in attempts if one.ending is ending)
