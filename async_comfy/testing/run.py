"""One prompt from its first event to its last (ComfyUI execution.py, PromptExecutor)."""

import asyncio
import functools
import inspect
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from async_comfy.testing.cache import Made
from async_comfy.testing.call import Call
from async_comfy.testing.gate import Interrupted
from async_comfy.testing.graph import Graph, Turns, is_link
from async_comfy.testing.nodes.node import Blocked, Expanded, Node, OutOfMemoryError, Shown
from async_comfy.testing.prompt_queue import Prompt, Record

if TYPE_CHECKING:
    from async_comfy.testing.worker import Worker

ADVICE = "The GPU has no room for this: a smaller picture or batch needs less.\n\nIt is a simulated GPU."
"""What stands after the message of an out-of-memory error; the real server gives advice there too."""


class DeadWorkerError(BaseException):
    """A node ended the worker (`SystemExit` in a node): no end mark, no history, nothing runs again."""


class UnserialisableError(BaseException):
    """A node showed something that is no JSON: on the real server the whole process ends."""


class Progress:
    """The cumulative state of all nodes begun so far, sent as a whole at every change."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self._nodes: dict[str, dict[str, Any]] = {}

    def start(self, node_id: str) -> None:
        """The node runs now."""
        self._set(node_id, 0.0, 1.0, "running")

    def update(self, node_id: str, value: float, total: float) -> None:
        """The node did `value` of `total` steps."""
        self._set(node_id, value, total, "running")

    def finish(self, node_id: str) -> None:
        """The node is done; one that never ran (its result was cached) counts 1 of 1."""
        total = self._nodes.get(node_id, {"max": 1})["max"]
        self._set(node_id, total, total, "finished")

    def _set(self, node_id: str, value: float, total: float, state: str) -> None:
        # The keys and their order are the real server's.
        self._nodes[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.run.prompt.prompt_id,
            **self.run.place(node_id),
        }
        if self.run.worker.profile.progress_state:
            self.run.say(
                "progress_state", {"prompt_id": self.run.prompt.prompt_id, "nodes": dict(self._nodes)}
            )


class Run:
    """One prompt while it runs."""

    def __init__(self, worker: "Worker", prompt: Prompt) -> None:
        self.worker = worker
        self.prompt = prompt
        self.graph = Graph(prompt.graph, worker.classes)
        self.turns = Turns(self.graph, lambda node_id: worker.cache.get(node_id) is not None)
        self.progress = Progress(self)
        self.executed: list[str] = []
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.succeeded = False
        self._expanded: dict[str, list[Any]] = {}
        self._shown: dict[str, Made] = {}

    async def play(self) -> Record:
        """Runs all that has to run, and tells; what /history will say of it."""
        cache = self.worker.cache
        await self.worker.gate.stand("start")
        self.worker.gate.interrupted = False  # a wish from before now is lost, as on the real server
        self.tell("execution_start", {"prompt_id": self.prompt.prompt_id})
        self.worker.begin(self)
        cached = [node_id for node_id in self.prompt.graph if cache.get(node_id) is not None]
        self.tell("execution_cached", {"nodes": cached, "prompt_id": self.prompt.prompt_id})
        for node_id in self.prompt.outputs:
            self.turns.want(node_id)
        self.succeeded = await self._visit_all()
        if self.succeeded:
            await self.worker.gate.stand("success")
            self.tell("execution_success", {"prompt_id": self.prompt.prompt_id})
            await self.worker.gate.stand("history")
        return self._record()

    def say(self, kind: str, data: Mapping[str, Any], *, everybody: bool = False) -> None:
        """Sends to the client of this prompt; a prompt without a client goes to everybody."""
        self.worker.sockets.say(kind, data, None if everybody else self.prompt.client_id)

    def show(self, kind: int, body: bytes, *, everybody: bool = False) -> None:
        """Sends a binary frame, to whom `say` would."""
        self.worker.sockets.show(kind, body, None if everybody else self.prompt.client_id)

    def tell(self, kind: str, data: dict[str, Any], *, everybody: bool = False) -> None:
        """Says it with a time, and keeps it for the history. Without a client only some of it is sent."""
        data = {**data, "timestamp": int(time.time() * 1000)}
        self.messages.append((kind, data))
        if self.prompt.client_id is not None or everybody:
            self.say(kind, data)

    def place(self, node_id: str) -> dict[str, Any]:
        """Where a node belongs: what it is shown as, what it grew out of, what it is in the posted prompt."""
        return {
            "display_node_id": self.graph.parent(node_id) or node_id,
            "parent_node_id": self.graph.parent(node_id),
            "real_node_id": self.graph.real(node_id),
        }

    async def _visit_all(self) -> bool:
        while self.turns:
            node_id = self.turns.next()
            inputs: dict[str, Any] = {}
            try:
                if await self._visit(node_id, inputs):
                    self.turns.finish(node_id)
            except Interrupted:
                self._interrupted(node_id)
                return False
            except Exception as error:  # noqa: BLE001 - whatever a node raises is an event, as on the real server
                self._failed(node_id, inputs, error)
                return False
        return True

    async def _visit(self, node_id: str, inputs: dict[str, Any]) -> bool:
        """One turn of one node; whether it is done. `inputs` is filled, for the report of an error."""
        cached = self.worker.cache.get(node_id)
        if cached is not None:
            self._announce("executed", node_id, output=cached.ui)
            self._keep_shown(node_id, cached)
            self.progress.finish(node_id)
            return True
        if node_id in self._expanded:
            self._made(node_id, self._resolve(self._expanded.pop(node_id)), None)
            return True
        self.progress.start(node_id)
        self._announce("executing", node_id)
        inputs.update(self._gather(node_id))
        await self.worker.gate.stand("node", deaf=self.worker.faults.ignores_interrupts)
        node = self.graph.class_of(node_id)
        if node.lacks is not None and self._asks_for_more(node_id, node.lacks, inputs):
            return False
        results = await self._call(node_id, node, inputs)
        return self._take(node_id, node, results)

    def _gather(self, node_id: str) -> dict[str, list[Any]]:
        """The inputs of a node, each a list of values; lazy ones that nobody made are left out."""
        gathered: dict[str, list[Any]] = {}
        node = self.graph.class_of(node_id)
        for name, value in self.graph.inputs(node_id).items():
            if not node.takes(name):
                continue
            if not is_link(value):
                gathered[name] = [value]
            elif (made := self.worker.cache.get(value[0])) is not None:
                gathered[name] = made.outputs[int(value[1])]
        return gathered

    def _asks_for_more(
        self, node_id: str, lacks: Callable[..., list[str]], inputs: Mapping[str, list[Any]]
    ) -> bool:
        wanted = lacks(**{name: values[0] for name, values in inputs.items()})
        missing = [link for link in self.graph.links(node_id) if link[0] in wanted and link[0] not in inputs]
        for _, source, _ in missing:
            self.turns.after(node_id, source)
        return bool(missing)

    async def _call(self, node_id: str, node: Node, inputs: Mapping[str, list[Any]]) -> list[Any]:
        """Calls the node once, or once for each value of its longest input."""
        if node.input_is_list:
            return [await self._call_once(node_id, node, 0, inputs)]
        turns = max((len(values) for values in inputs.values()), default=1)
        if inputs and min(len(values) for values in inputs.values()) == 0:
            turns = 0
        results = []
        for index in range(turns):
            one = {name: values[min(index, len(values) - 1)] for name, values in inputs.items()}
            blocked = next((value for value in one.values() if isinstance(value, Blocked)), None)
            if blocked is not None:
                results.append(self._block(node_id, node, blocked))
            else:
                results.append(await self._call_once(node_id, node, index, one))
        return results

    async def _call_once(self, node_id: str, node: Node, index: int, inputs: Mapping[str, Any]) -> Any:
        call = Call(self.worker, self, node_id, index)
        if inspect.iscoroutinefunction(node.run):
            return await node.run(call, **inputs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.worker.thread, functools.partial(_contain, node.run, call, inputs)
        )

    def _take(self, node_id: str, node: Node, results: list[Any]) -> bool:
        """Takes what a node returned, once for each call; whether the node is done."""
        shown = [result.ui for result in results if isinstance(result, Shown)]
        ui = {key: [item for one in shown for item in one[key]] for key in shown[0]} if shown else None
        if ui:
            self._announce("executed", node_id, output=ui)
        if any(isinstance(result, Expanded) for result in results):
            self._expand(node_id, results)
            return False
        self._made(node_id, _columns(node, [_outputs(result) for result in results]), ui)
        return True

    def _made(self, node_id: str, outputs: list[list[Any]], ui: dict[str, Any] | None) -> None:
        place = self.place(node_id)
        meta = {
            "node_id": node_id,
            "display_node": place["display_node_id"],
            "parent_node": place["parent_node_id"],
            "real_node_id": place["real_node_id"],
        }
        made = Made(outputs, ui or None, meta)
        self.worker.cache.put(node_id, made)
        self._keep_shown(node_id, made)
        self.progress.finish(node_id)
        self.executed.append(node_id)

    def _keep_shown(self, node_id: str, made: Made) -> None:
        if made.ui is not None:
            self._shown[node_id] = made

    def _expand(self, node_id: str, results: list[Any]) -> None:
        """Puts the new nodes in; this node is done once they are, and hands on what they made."""
        for result in results:
            if not isinstance(result, Expanded):
                continue
            self.graph.grow(node_id, result.graph)
            for name in result.graph:
                if self.graph.class_of(name).output_node:
                    self.turns.want(name)
            for value in result.outputs:
                if is_link(value):
                    self.turns.after(node_id, value[0])
        self._expanded[node_id] = results

    def _resolve(self, results: list[Any]) -> list[list[Any]]:
        """The outputs of an expanded node, its links replaced by what the linked nodes made."""
        columns: list[list[Any]] = []
        for result in results:
            for slot, value in enumerate(_outputs(result)):
                made = self.worker.cache.get(value[0]) if is_link(value) else None
                values = made.outputs[int(value[1])] if made is not None else [value]
                columns.extend([] for _ in range(len(columns), slot + 1))
                columns[slot].extend(values)
        return columns

    def _announce(self, kind: str, node_id: str, **more: Any) -> None:
        """`executing` or `executed`, to the client only: a prompt without one has none of them."""
        client_id = self.prompt.client_id
        if client_id is None:
            return
        display = self.graph.parent(node_id) or node_id
        if kind == "executing":
            self.worker.sockets.running = (client_id, display)
        about = {"node": node_id, "display_node": display, **more, "prompt_id": self.prompt.prompt_id}
        try:
            self.say(kind, about)
        except (TypeError, ValueError) as error:
            raise UnserialisableError(str(error)) from error

    def _block(self, node_id: str, node: Node, blocked: Blocked) -> tuple[Blocked, ...]:
        """A node behind a blocked output does not run; it says so if there is a message, and blocks on."""
        if blocked.message is not None:
            error = self._error(
                node_id, node.name, f"Execution Blocked: {blocked.message}", "ExecutionBlocked"
            )
            self.say(
                "execution_error", {**error, "traceback": [], "current_inputs": [], "current_outputs": []}
            )
        return (Blocked(),) * max(1, len(node.outputs))

    def _interrupted(self, node_id: str) -> None:
        real = self.graph.real(node_id)
        self.tell(
            "execution_interrupted",
            {
                "prompt_id": self.prompt.prompt_id,
                "node_id": real,
                "node_type": self.graph.class_of(real).name,
                "executed": list(self.executed),
            },
            everybody=True,
        )

    def _failed(self, node_id: str, inputs: Mapping[str, list[Any]], error: Exception) -> None:
        real = self.graph.real(node_id)
        advice = ADVICE if isinstance(error, OutOfMemoryError) else ""
        if advice:
            self.worker.loaded.clear()
        message = f"{error}\n{advice}" if self.worker.profile.explains_errors else str(error)
        report = self._error(real, self.graph.class_of(real).name, message, _full_name(error))
        report["traceback"] = traceback.format_tb(error.__traceback__)
        given = {**inputs, **self._hidden(node_id)}
        report["current_inputs"] = {
            name: [_short(value) for value in values] for name, values in given.items()
        }
        report["current_outputs"] = list(self.prompt.graph)
        self.tell("execution_error", report)

    def _hidden(self, node_id: str) -> dict[str, list[Any]]:
        """What the class asks for beside its inputs; it is named when the node fails."""
        known = {
            "PROMPT": self.prompt.graph,
            "EXTRA_PNGINFO": self.prompt.extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
        }
        hidden = self.graph.class_of(node_id).hidden
        return {
            name: [known.get(kind if isinstance(kind, str) else kind[0])] for name, kind in hidden.items()
        }

    def _error(self, node_id: str, class_type: str, message: str, kind: str) -> dict[str, Any]:
        return {
            "prompt_id": self.prompt.prompt_id,
            "node_id": node_id,
            "node_type": class_type,
            "executed": list(self.executed),
            "exception_message": message,
            "exception_type": kind,
        }

    def _record(self) -> Record:
        shown = self._shown
        return Record(
            self.prompt,
            outputs={node_id: one.ui for node_id, one in shown.items()},
            meta={node_id: one.meta for node_id, one in shown.items()},
            status={
                "status_str": "success" if self.succeeded else "error",
                "completed": self.succeeded,
                "messages": [list(message) for message in self.messages],
            },
            visible_at=time.monotonic() + self.worker.faults.history_late_s,
        )


def _contain(run: Any, call: Call, inputs: Mapping[str, Any]) -> Any:
    """Runs a node in the thread; what would end the thread becomes what ends the worker."""
    try:
        return run(call, **inputs)
    except (SystemExit, KeyboardInterrupt) as error:
        raise DeadWorkerError(repr(error)) from None


def _outputs(result: Any) -> tuple[Any, ...]:
    return tuple(result.outputs) if isinstance(result, Shown | Expanded) else tuple(result or ())


def _columns(node: Node, rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The values of each output: one for each call, or all that a list output gave."""
    width = max((len(row) for row in rows), default=len(node.outputs))
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        for slot, value in enumerate(row):
            if node.lists(slot) and not isinstance(value, Blocked):
                columns[slot].extend(value)
            else:
                columns[slot].append(value)
    return columns


def _full_name(error: Exception) -> str:
    if isinstance(error, OutOfMemoryError):
        return "torch.OutOfMemoryError"
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
