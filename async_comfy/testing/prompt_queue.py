"""The queue of prompts and the history of what was run (ComfyUI execution.py, PromptQueue)."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

HISTORY_LIMIT = 10_000  # the real server forgets the oldest entry beyond so many


@dataclass(slots=True, eq=False)
class Prompt:
    """One prompt: what was posted and what the server made of it. `outputs`: the output nodes to run."""

    number: float
    prompt_id: str
    graph: dict[str, Any]
    extra_data: dict[str, Any]
    outputs: list[str]

    @property
    def client_id(self) -> Any:
        """Who gets the events: a client id, or None for nobody in particular."""
        return self.extra_data.get("client_id")

    def item(self) -> list[Any]:
        """The five things that /queue and /history say of a prompt."""
        return [self.number, self.prompt_id, self.graph, self.extra_data, self.outputs]


@dataclass(slots=True)
class Record:
    """One finished prompt as /history shows it, from `visible_at` (monotonic seconds) on."""

    prompt: Prompt
    outputs: dict[str, Any]
    meta: dict[str, Any]
    status: dict[str, Any]
    visible_at: float = 0.0

    def entry(self) -> dict[str, Any]:
        """The JSON under the prompt id in /history."""
        return {
            "prompt": self.prompt.item(),
            "outputs": self.outputs,
            "status": self.status,
            "meta": self.meta,
        }


class PromptQueue:
    """Prompts that wait, prompts that run, prompts that ran. `changed` is called when a number changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.running: dict[int, Prompt] = {}
        self._heap: list[tuple[float, str, Prompt]] = []
        self._history: dict[str, Record] = {}
        self._serial = itertools.count()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap) + len(self.running)

    @property
    def pending(self) -> list[Prompt]:
        """What waits, in the order of the heap: the first is next, the rest is not sorted."""
        return [entry[-1] for entry in self._heap]

    def put(self, prompt: Prompt) -> None:
        """Queues a prompt. Lower numbers run first; equal numbers run by prompt id, not first come.

        Raises: `TypeError` where both are equal, as on the real server, after the prompt was queued.
        """
        heapq.heappush(self._heap, (prompt.number, prompt.prompt_id, prompt))
        self._filled.set()
        self.changed()

    async def filled(self) -> None:
        """Waits until a prompt waits."""
        while not self._heap:
            self._filled.clear()
            await self._filled.wait()

    def take(self) -> tuple[int, Prompt] | None:
        """Moves the first of the queue to the running ones, with a ticket for `done`."""
        if not self._heap:
            return None
        prompt = heapq.heappop(self._heap)[-1]
        ticket = next(self._serial)
        self.running[ticket] = prompt
        self.changed()
        return ticket, prompt

    def done(self, ticket: int, record: Record) -> None:
        """Writes the history entry; only then is the prompt no longer running."""
        prompt = self.running.pop(ticket)
        while len(self._history) >= HISTORY_LIMIT:
            del self._history[next(iter(self._history))]
        self._history[prompt.prompt_id] = record
        self.changed()

    def delete(self, prompt_id: str) -> bool:
        """Removes one waiting prompt of that id. Leaves no trace but the changed number."""
        for entry in self._heap:
            if entry[1] == prompt_id:
                self._heap.remove(entry)
                heapq.heapify(self._heap)
                self.changed()
                return True
        return False

    def clear(self) -> None:
        """Removes all that wait."""
        self._heap.clear()
        self.changed()

    def find_running(self, prompt_id: str) -> Prompt | None:
        """The running prompt of that id."""
        return next((prompt for prompt in self.running.values() if prompt.prompt_id == prompt_id), None)

    def knows(self, prompt_id: str) -> bool:
        """Whether a prompt of that id waits, runs or ran."""
        return (
            prompt_id in self._history
            or self.find_running(prompt_id) is not None
            or any(prompt.prompt_id == prompt_id for prompt in self.pending)
        )

    def records(self) -> Iterator[Record]:
        """Finished prompts that can be seen by now, oldest first."""
        now = time.monotonic()
        return (record for record in list(self._history.values()) if record.visible_at <= now)

    def record(self, prompt_id: str) -> Record | None:
        """One finished prompt, if it can be seen by now."""
        record = self._history.get(prompt_id)
        return record if record is not None and record.visible_at <= time.monotonic() else None

    def truth(self, prompt_id: str) -> Record | None:
        """One finished prompt, whether it can be seen yet or not."""
        return self._history.get(prompt_id)

    def forget(self, prompt_id: str | None = None) -> None:
        """Removes one entry of the history, or all."""
        if prompt_id is None:
            self._history.clear()
        else:
            self._history.pop(prompt_id, None)
