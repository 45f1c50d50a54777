"""When to try again: exponential with full jitter, so that a thousand clients do not come back at once.

After "Exponential Backoff And Jitter" (Marc Brooker, AWS Architecture Blog, 2015). The random number is
the caller's, so a test replays the same waits.
"""

from dataclasses import dataclass, field

FIRST_S = 0.5  # a server that restarts needs seconds; less would only knock
LONGEST_S = 30.0  # after an hour of being down, back within half a minute


@dataclass(slots=True)
class Backoff:
    """The waits between attempts at one thing. `reset` when it worked."""

    first_s: float = FIRST_S
    longest_s: float = LONGEST_S
    attempts: int = 0

    def next_s(self, chance: float) -> float:
        """Seconds until the next attempt; `chance` is a fresh random number in [0, 1)."""
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return ceiling * chance

    def reset(self) -> None:
        """It worked: the next trouble begins with short waits again."""
        self.attempts = 0


def retry_after_s(header: str | None, limit_s: float = LONGEST_S) -> float | None:
    """Seconds in a Retry-After header, at most `limit_s`; None for garbage, dates and negatives."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(seconds, limit_s) if 0 <= seconds < float("inf") else None


@dataclass(slots=True)
class Budget:
    """How much trying again may add to the load: a share of what is asked, and a small reserve.

    When a fleet is down, retries without a budget multiply what it has to refuse.
    """

    share: float = 0.2
    reserve: float = 10.0  # so that a client that asked little may still try again
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.reserve

    def ask(self) -> None:
        """A first attempt was made."""
        self.level = min(self.level + self.share, self.reserve)

    def retry(self) -> bool:
        """Whether a further attempt is within the budget; it is taken from it then."""
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True
