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
_MOST = {bytes: _SNAPSHOT, Progress: _STEP, ProgressState: _SNAPSHOT, Preview: _PREVIEW}
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
        items = self._items
        items.append(item)
        self._weight += _MOST.get(type(item), 0)
        if self._weight > HEAVIEST:
            self._weigh()
        elif len(items) > MOST_FACTS + HEAVIEST:
            items.popleft()
            self.dropped += 1
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Nothing more will come; what is here can still be taken."""
        self.closed = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def copy(self) -> "Mailbox":
        """The same content for another watcher."""
        other = Mailbox()
        other._items, other._weight, other.closed = self._items.copy(), self._weight, self.closed
        return other

    def take(self) -> Event | None:
        """The next event, in the order in which they came; None when nothing waits."""
        items = self._items
        while items:
            item = items.popleft()
            if not isinstance(item, bytes):
                return item
            try:
                return frames.decode_gauge(item)
            except frames.BrokenFrame:
                self.dropped += 1  # it began like a gauge; that is all that was looked at
        self._weight = 0
        return None

    async def wait(self) -> None:
        """Returns when something waits or nothing more will come."""
        while not self._items and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _weigh(self) -> None:
        """What was taken is still counted: counts anew, and thins out where it is too much even so."""
        self._weight = sum(map(_weight, self._items))
        if self._weight > HEAVIEST:
            self._thin()

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


def _weight(item: Item) -> int:
    """0 for facts."""
    if type(item) is bytes and frames.is_step(item):
        return _STEP
    return _MOST.get(type(item), 0)
