"""Which models a server has in memory, told from what ran there.

A server unloads what it used longest ago, when it needs the room. How many sets of models have room is
configured, or learned: a run that was quick although its models should have been gone says "more", one
that was slow although they should have been there says "fewer".
"""

from collections import OrderedDict
from enum import StrEnum

ROOM = 2  # sets of models that a server is believed to hold before it showed otherwise
MOST_ROOM = 16

Models = tuple[str, ...]


class Standing(StrEnum):
    """What is believed of a set of models at one server."""

    LATEST = "latest"  # warm, and used last by us: only others can have taken its room since
    WARM = "warm"
    GONE = "gone"  # it was warm, and others took its room
    NEW = "new"  # never used there, as far as is known


class Warmth:
    """The sets of models of one server, the longest unused first."""

    __slots__ = ("_doubted", "_learns", "_seen", "room")

    def __init__(self, room: int | None = None) -> None:
        self.room = room or ROOM
        self._learns = room is None
        self._seen: OrderedDict[Models, None] = OrderedDict()
        self._doubted: Models | None = None  # what was used last, and yet took as long as a cold start

    def __repr__(self) -> str:
        return f"<Warmth {len(self.sets())} of {self.room}>"

    def __contains__(self, models: Models) -> bool:
        return not models or models in self.sets()

    def sets(self) -> list[Models]:
        """What is warm, the most recent last."""
        return list(self._seen)[-self.room :]

    def kinship(self, models: Models) -> int:
        """How many of these files were used last: a checkpoint stays for another LoRA on it."""
        latest = next(reversed(self._seen), ())
        return sum([one in latest for one in models])

    @property
    def spare(self) -> bool:
        """Whether one more set has room, and none would have to go."""
        return len(self._seen) < self.room

    @property
    def crowded(self) -> bool:
        """Whether others than the latest are there."""
        return len(self._seen) > 1

    def use(self, models: Models) -> None:
        """These run now."""
        if models:
            self._seen[models] = None
            self._seen.move_to_end(models)
        while len(self._seen) > max(MOST_ROOM, self.room):
            self._seen.popitem(last=False)

    def standing(self, models: Models) -> Standing:
        """What is believed of these models now."""
        if not models or models == next(reversed(self._seen), None):
            return Standing.LATEST
        if models in self:
            return Standing.WARM
        return Standing.GONE if models in self._seen else Standing.NEW

    def learn(self, models: Models, standing: Standing, *, was_cold: bool, sure: bool = False) -> bool:
        """What a run told, given what was believed before it; whether it was a cold start after all.

        Used last, and yet slow: somebody unloaded everything. A second time in a row it is no load: the work
        itself has become slower, unless the server says that it loaded (`sure`).
        """
        if standing is Standing.LATEST:
            if was_cold and self._doubted == models and not sure:
                return False
            self._doubted = models if was_cold else None
            if was_cold:
                self._lose_before(models)
        elif standing is Standing.WARM and was_cold and self._learns:
            self.room = max(1, self.room - 1)
        elif standing is Standing.GONE and not was_cold and self._learns:
            self.room = min(MOST_ROOM, self.room + 1)
        return was_cold

    def resize(self, room: int | None) -> None:
        """So much room from now on; None: to be learned."""
        self._learns = room is None
        self.room = room or self.room

    def drop(self, models: Models) -> None:
        """These were not loaded after all."""
        self._seen.pop(models, None)

    def forget(self) -> None:
        """The server was restarted or freed: nothing is warm."""
        self._seen.clear()

    def _lose_before(self, models: Models) -> None:
        """What was used before these is gone."""
        while self._seen and next(iter(self._seen)) != models:
            self._seen.popitem(last=False)
