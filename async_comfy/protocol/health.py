"""How well a server is: ready, ejected for a while after failures, or quarantined until it shows life.

Only what the network and the server do counts; a workflow that fails says nothing of the machine.
Ejection is that of Envoy's outlier detection (consecutive failures, a time-out that grows with every
ejection and shrinks with health, never more than a part of the fleet). A server that comes back is
slow-started: one prompt alone, and trusted again when it went well.
"""

from dataclasses import dataclass
from enum import StrEnum

FAILURES = 3  # in a row until ejection; Envoy says 5, of requests that are far cheaper than prompts
EJECTED_S = 15.0  # the first time; so much more at each further time
LONGEST_S = 300.0
REST_S = 0.5  # after the first failure, doubling: also the last server that is left is not hammered
PART = 0.5  # of the fleet at most: with more gone the trouble is probably ours


class Condition(StrEnum):
    """What a server is good for now."""

    JOINING = "joining"  # not connected yet, or not any more
    READY = "ready"
    PROBING = "probing"  # came back: one prompt alone
    EJECTED = "ejected"  # failed too often: nothing for a while
    QUARANTINED = "quarantined"  # its worker gives no sign: nothing until it does
    DRAINING = "draining"  # nothing new, by order


@dataclass(slots=True)
class Health:
    """One server's. Times are parameters, in seconds."""

    connected: bool = False
    draining: bool = False
    stuck: bool = False
    trusted: bool = False
    mourned: bool = False  # the failures of this absence are counted
    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    rests_until: float = 0.0

    def condition(self, now: float) -> Condition:
        """What it is good for."""
        if self.draining:
            return Condition.DRAINING
        if not self.connected:
            return Condition.JOINING
        if self.stuck:
            return Condition.QUARANTINED
        if now < self.ejected_until:
            return Condition.EJECTED
        return Condition.READY if self.trusted else Condition.PROBING

    def takes(self, now: float) -> bool:
        """Whether it may be given work."""
        away = now < self.ejected_until or now < self.rests_until
        return self.connected and not (self.draining or self.stuck or away)

    def joined(self) -> None:
        """Connected: HTTP answers and the first status came."""
        self.connected = True
        self.stuck = False
        self.trusted = False
        self.mourned = False

    def left(self) -> None:
        """The connection is gone."""
        self.connected = False

    def worked(self) -> None:
        """A prompt ended as prompts end, well or by its own fault."""
        self.trusted = True
        self.stuck = False
        self.failures = 0
        self.rests_until = 0.0
        self.ejections = max(self.ejections - 1, 0)

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """The machine or the way to it failed; whether it is ejected now. After an ejection one suffices.

        However many jobs a death takes along, it is one failure. What ends badly during an ejection was sent
        before it, and tells nothing new.
        """
        if (not self.connected and self.mourned) or now < self.ejected_until:
            return False
        self.mourned = not self.connected
        self.failures += 1
        self.rests_until = now + min(REST_S * 2.0 ** min(self.failures - 1, 10), EJECTED_S)
        if not may_eject or (self.failures < FAILURES and (self.trusted or not self.ejections)):
            return False
        self.ejections += 1
        self.failures = 0
        self.trusted = False
        self.ejected_until = now + min(EJECTED_S * self.ejections, LONGEST_S)
        return True

    def stalled(self) -> None:
        """Its worker gives no sign of life."""
        self.stuck = True
        self.trusted = False
