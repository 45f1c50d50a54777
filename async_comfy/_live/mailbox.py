"""What is on its way to one watcher. Putting never waits, and memory is bounded.

Facts stay. Gauges queue too while the reader keeps up; where it does not, only the newest of each kind
stay, since a newer one says all that matters. What went is counted.
"""

import asyncio
from collections import Counter, deque

from async_comfy.events import Event, Preview, Progress, ProgressState
from async_comfy.protocol import frames

Item = Event | bytes
"""An event, or a gauge frame that its reader decodes."""

# What a waiting gauge weighs, by what it takes of memory, and how many of its kind are kept when all
# that waits weighs too much: then a reader was slow, and wants to know how things stand now.
_STEP, _SNAPSHOT, _PREVIEW = 1, 8, 64
_KEPT = {_STEP: 64, _SNAPSHOT: 2, _PREVIEW: 2}
HEAVIEST = 512  # 512 steps, 64 snapshots or 8 previews: a pause within a run costs nothing
MOST_FACTS = 10_000  # a run says a few for each node; only a node that floods comes here


class Mailbox:
    """A queue from the socket's reader to one watcher."""

    __slots__ = ("_items", "_waiter", "_weight", "closed", "dropped")

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._weight = 0
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Mailbox {len(self)} waiting, {self.dropped} dropped>"

    def put(self, item: Item) -> None:
        """Adds; thins out the gauges where too much of them waits."""
        self._items.append(item)
        self._weight += _weight(item)
        if self._weight > HEAVIEST:
            self._thin()
        elif len(self._items) > MOST_FACTS + HEAVIEST:
            self._drop_oldest()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Nothing more will come; what is here can still be taken."""
        self.closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def copy(self) -> "Mailbox":
        """The same content for another watcher."""
        other = Mailbox()
        other._items, other._weight, other.closed = self._items.copy(), self._weight, self.closed
        return other

    def take(self) -> Event | None:
        """The next event, in the order in which they came; None when nothing waits."""
        while self._items:
            item = self._items.popleft()
            self._weight -= _weight(item)
            if not isinstance(item, bytes):
                return item
            try:
                return frames.decode_text(item)
            except frames.BrokenFrame:
                self.dropped += 1  # it began like a gauge; that is all that was looked at
        return None

    async def wait(self) -> None:
        """Returns when something waits or nothing more will come."""
        while not self._items and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _thin(self) -> None:
        """Keeps every fact, and the newest few gauges of each kind, in order."""
        kept: deque[Item] = deque()
        seen: Counter[int] = Counter()
        for item in reversed(self._items):
            weight = _weight(item)
            seen[weight] += 1
            if not weight or seen[weight] <= _KEPT[weight]:
                kept.appendleft(item)
        self.dropped += len(self._items) - len(kept)
        self._items = kept
        self._weight = sum(map(_weight, kept))

    def _drop_oldest(self) -> None:
        self._weight -= _weight(self._items.popleft())
        self.dropped += 1


def _weight(item: Item) -> int:
    """0 for facts."""
    if isinstance(item, bytes):
        return _STEP if frames.is_step(item) else _SNAPSHOT
    if isinstance(item, Progress):
        return _STEP
    if isinstance(item, ProgressState):
        return _SNAPSHOT
    return _PREVIEW if isinstance(item, Preview) else 0
