"""A server as placement sees it: what it has, what it holds warm, what it is busy with, what it failed at."""

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from async_comfy.protocol.costs import Memory
from async_comfy.protocol.health import Health
from async_comfy.protocol.lanes import Models, Needs, Ticket
from async_comfy.protocol.warmth import Standing, Warmth

UNSURE_S = 30.0  # only so long while nobody knows whether such prompts succeed anywhere
BAD_PAIR_S = 300.0  # a server that failed with models twice is not given them again for so long
LACKS_S = 300.0  # what a server refused for not being there may be there now: files can be added at any time
OTHER = "another server was asked for"

Work = Models | frozenset[str]
"""What prompts have in common that a server can be bad at: their models, or without any their classes."""

_COLD = frozenset({Standing.GONE, Standing.NEW})


@dataclass(slots=True, eq=False)
class Placement:
    """A decision: this job to that server. Times in seconds; `turn_s`: how far its tenant was ahead.

    `holders`: servers that held its models. `kin`: how many of its files were used there last. `choices`:
    shelves that were compared.
    """

    ticket: Ticket
    host: str
    standing: Standing
    kin: int
    waited_s: float
    run_s: float
    load_s: float
    turn_s: float
    holders: int
    choices: int
    others: int

    @property
    def cold(self) -> bool:
        """Whether its models have to be loaded first."""
        return self.standing in _COLD

    @property
    def foreign(self) -> bool:
        """Whether its models have to be loaded, and are mostly others than those that were there last."""
        return self.cold and 2 * self.kin < len(self.ticket.footprint.models)

    def __str__(self) -> str:
        models = ", ".join(self.ticket.footprint.models) or "no models"
        heat = (
            f"a cold start of about {self.load_s:.1f} s (held by {self.holders} servers)"
            if self.cold
            else "warm there"
        )
        strangers = f", behind {self.others} prompts of others" if self.others else ""
        return (
            f"placed on {self.host} after {self.waited_s:.1f} s: {models}, {heat}; "
            f"about {self.run_s:.1f} s of work{strangers}; best of {self.choices} kinds of waiting jobs"
        )


@dataclass(slots=True)
class Hand:
    """One job of ours at a server. A second of it is so much of its tenant's share, and of its lane's."""

    placement: Placement
    cost_s: float
    since: float
    of_tenant: float
    of_lane: float
    ran: bool = True  # until it is known not to have


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often a server failed with some models, and until when it is not given them."""

    times: int
    until: float
    died: bool


class Host:
    """A server as placement sees it.

    `lanes`: it takes these alone, None: all. `vram_bytes`: 0 where unknown. `room`: sets of models that it
    holds at once; None: to be learned.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: AbstractSet[str] = frozenset(),
        lanes: AbstractSet[str] | None = None,
        vram_bytes: int = 0,
        room: int | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.lanes = lanes
        self.vram_bytes = vram_bytes
        self.warmth = Warmth(room)
        self.health = Health()
        self.hand: dict[Ticket, Hand] = {}
        self.others = 0  # prompts of other people in its queue
        self.lacks: dict[str, float] = {}  # node classes and model files that it refused, believed until then
        self.recent: OrderedDict[str, None] = OrderedDict()
        self.stint_until = 0.0
        self._bad: Memory[Work, Trouble] = Memory()
        self._fits: dict[Needs, bool] = {}

    def __repr__(self) -> str:
        return f"<Host {self.name}, {len(self.hand)} in hand, {self.warmth!r}>"

    def fits(self, needs: Needs) -> bool:
        """Whether it has what a job asks for, models aside."""
        found = self._fits.get(needs)
        if found is None:
            if len(self._fits) > 1000:
                self._fits.clear()
            found = self._fits[needs] = self._compare(needs)
        return found

    def misses(self, needs: Needs, models: Models) -> str:
        """Why it cannot run this, in a few words; empty where it can."""
        if needs.server is not None and needs.server != self.name:
            return OTHER
        if self.name in needs.without:
            return "excluded after it failed"
        if missing := needs.labels - self.labels:
            return f"has no label {', '.join(sorted(missing))}"
        if needs.vram_bytes > self.vram_bytes:
            return "has too little VRAM, or does not say how much"
        if lacking := self.lacks.keys() & {*needs.classes, *models}:
            return f"lacks {', '.join(sorted(lacking))}"
        return ""

    def lack(self, things: frozenset[str], now: float) -> None:
        """It refused a prompt because these are not there."""
        self.lacks |= dict.fromkeys(things, now + LACKS_S)
        self._fits.clear()

    def forgive(self, now: float, things: frozenset[str] = frozenset()) -> None:
        """It may have these by now, and what it was found to lack long ago."""
        kept = {one: until for one, until in self.lacks.items() if until > now and one not in things}
        if len(kept) < len(self.lacks):
            self.lacks = kept
            self._fits.clear()

    def amend(
        self, labels: AbstractSet[str], lanes: AbstractSet[str] | None, room: int | None, vram_bytes: int
    ) -> None:
        """Something else is said of it from now on."""
        self.labels, self.lanes, self.vram_bytes = labels, lanes, vram_bytes
        self.warmth.resize(room)
        self._fits.clear()

    def renew(self) -> None:
        """Another life of it: what it lacked may be there now, what was warm is not."""
        self.lacks.clear()
        self.warmth.forget()
        self._fits.clear()
        for work in [work for work, one in self._bad.items() if not one.died]:
            del self._bad[work]

    def failed_with(self, work: Work, now: float, *, died: bool, sure: bool) -> None:
        """Such a prompt failed here, or the server `died` of it. `sure`: such are known to succeed."""
        known = self._bad.get(work)
        times = known.times + 1 if known is not None else 1
        seconds = BAD_PAIR_S if sure or died else UNSURE_S
        self._bad[work] = Trouble(times, now + seconds if times >= 2 else 0.0, died)

    def worked_with(self, work: Work) -> None:
        """Such a prompt was completed."""
        if self._bad:
            self._bad.pop(work, None)

    def avoids(self, work: Work, now: float) -> bool:
        """Whether it failed with such prompts too often to be given them now."""
        trouble = self._bad.get(work)
        return trouble is not None and now < trouble.until

    def acquit(self, work: Work) -> None:
        """It was not to blame for what failed, unless it died of that."""
        if (trouble := self._bad.get(work)) is not None and not trouble.died:
            del self._bad[work]

    def takes_models(self, models: Models, needs: Needs, now: float) -> bool:
        """Whether it has the files, and did not fail with them too often; who names it, gets it."""
        if self.lacks and not self.lacks.keys().isdisjoint(models):
            return False
        return not self._bad or needs.server is not None or not self.avoids(models or needs.classes, now)

    def hand_s(self, now: float) -> float:
        """Seconds until it is through with what it has of ours."""
        due = 0.0
        for hand in self.hand.values():
            due = max(due, hand.since) + hand.cost_s
        return max(due - now, 0.0)

    def _compare(self, needs: Needs) -> bool:
        return not self.misses(needs, ())
