"""The worker: takes one prompt after the other and runs it (ComfyUI main.py, prompt_worker)."""

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_comfy.testing.cache import Cache
from async_comfy.testing.nodes.node import Node
from async_comfy.testing.run import DeadWorkerError, Run, UnserialisableError

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer


@dataclass
class Settings:
    """How long things take. `step_s`: one step of a sampler; `load_s`: a model's first use; seconds."""

    step_s: float = 0.0
    load_s: float = 0.0
    preview: bool = True


class Worker:
    """Runs the prompts of one server, one at a time."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.profile = server.profile
        self.settings = server.settings
        self.classes: Mapping[str, Node] = server.catalog
        self.queue = server.queue
        self.sockets = server.sockets
        self.folders = server.folders
        self.faults = server.faults
        self.gate = server.gate
        self.pulse = server.pulse
        self.begun = server.begun
        self.died = server.died
        self.cache = Cache()
        self.loaded: set[str] = set()
        self.temp_prefixes: dict[str, str] = {}
        self.thread = ThreadPoolExecutor(1, "simulated-nodes")
        self._thread_id = 0
        self._busy = self._free_models = self._free_results = False

    async def work(self) -> None:
        """Runs prompts for ever; ends only when a node ends the worker."""
        self._thread_id = threading.get_ident()
        self.gate.bind(asyncio.get_running_loop())
        try:
            while await self._work_once():
                self.pulse.beat()
        except UnserialisableError:
            self.died()

    def close(self) -> None:
        """Gives the thread back. A node that still runs in it runs to its end, unheard."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def on_loop(self, call: Callable[..., None], *args: Any, **named: Any) -> None:
        """Calls it on the server's loop: at once when we are there, soon when we are in a thread."""
        if threading.get_ident() == self._thread_id:
            call(*args, **named)
        else:
            self.gate.soon(functools.partial(call, *args, **named))

    def begin(self, run: Run) -> None:
        """A run begins: what it has no use for is forgotten."""
        node_ids = list(run.prompt.graph)
        self.cache.begin(run.graph, node_ids, self.folders)
        prefixes = self.temp_prefixes
        self.temp_prefixes = {node_id: prefixes[node_id] for node_id in node_ids if node_id in prefixes}

    def free(self, *, models: bool, results: bool) -> None:
        """Forgets it at once where nothing runs, else once that is through (main.py, prompt_worker)."""
        self._free_models |= models
        self._free_results |= results
        if not self._busy:
            self._forget()

    def _forget(self) -> None:
        if self._free_models or self._free_results:
            self.loaded.clear()
        if self._free_results:
            self.cache.clear()
        self._free_models = self._free_results = False

    async def _work_once(self) -> bool:
        await self.queue.filled()
        await self.gate.stand("prompt")
        taken = self.queue.take()
        if taken is None:
            return True  # it was deleted while we were held
        ticket, prompt = taken
        self.begun(prompt.prompt_id)
        if self.faults.dead_worker:
            return False
        self._busy = True
        try:
            record = await Run(self, prompt).play()
        except DeadWorkerError:
            return False
        finally:
            self._busy = False
        self.sockets.running = (None, None)
        self.queue.done(ticket, record)
        if prompt.client_id is not None:
            self.sockets.say("executing", {"node": None, "prompt_id": prompt.prompt_id}, prompt.client_id)
        self._forget()
        return True
