"""One call of `run`, from the files to the saved pictures."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio.to_thread import run_sync

from async_comfy import CallerError, ComfyError, NetworkError, Session
from async_comfy.cli.batch import Batch
from async_comfy.cli.exits import DONE, FAILED
from async_comfy.cli.lock import locked
from async_comfy.cli.manifest import Record
from async_comfy.cli.order import Left, Order, Template
from async_comfy.cli.place import AtFleet, AtServer
from async_comfy.cli.report import Place, Report

NEEDS_SERVER = (
    " The file is in the editor's format, which is converted with a server's list of nodes; "
    "or choose Workflow > Export (API) in the editor, and run that file."
)


class Errand:
    """What was ordered, carried out. `submit`: options of `Session.submit` or `Pool.submit`."""

    def __init__(
        self, order: Order, where: AtServer | AtFleet, report: Report, submit: dict[str, Any]
    ) -> None:
        self.order = order
        self.where = where
        self.report = report
        self.submit = submit
        self.batch: Batch | None = None

    async def send(self) -> int:
        """Submits and leaves; the exit code. Raises: ComfyError."""
        async with self._ready() as (place, templates):
            if not isinstance(place, Session):
                hint = "A pool's queue is in this process: let it run, or name one --server."
                raise CallerError("A job that waits in a pool cannot be left.", hint=hint)
            record = self.order.record(self.order.key(templates))
            await self._inspected(templates, record)
            for variant in self.order.variants(templates, record):
                job = await place.submit(variant.workflow, **self.submit)
                self.report.left(variant.index, job, place)
        return DONE

    async def finish(self, in_flight: int | None, timeout: float | None) -> int:
        """Submits, watches and saves; the exit code. Raises: ComfyError."""
        async with self._ready() as (place, templates), AsyncExitStack() as stack:
            key = self.order.key(templates)
            stack.enter_context(locked(self.order.output, key))
            record = self.order.record(key)
            left = await self._inspected(templates, record)
            variants, hardy = self.order.variants(templates, record), not self.order.is_single
            album = self.order.album(record)
            self.batch = Batch(variants, album, self.report, timeout, self.submit, hardy=hardy)
            with self.report:
                self.report.begin(self.order.name, left.total, left.done)
                await self._pick_up(self.batch, record, stack)
                code = await self.batch.run([place], (in_flight or self.where.in_flight) * self.where.servers)
                return self._summed_up(self.batch, left, code) if left.total > 1 or hardy else code

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        if self.batch is not None:
            self.batch.interrupted()

    async def _inspected(self, templates: list[Template], record: Record) -> Left:
        """What is left to do; not in the event loop, since there may be many rows. Raises: CallerError."""
        return await run_sync(self.order.inspected, templates, record)

    async def _pick_up(self, batch: Batch, record: Record, stack: AsyncExitStack) -> None:
        """Finds where the prompts can be asked for that were at a server when an earlier call ended."""
        if not record.sent:
            return
        sessions = await self.where.sessions({sent.server for sent in record.sent.values()}, stack)
        for run, sent in record.sent.items():
            if sent.server in sessions:
                batch.picked[run] = (sessions[sent.server], sent)
            else:
                self.report.note(f"{run:04} went to {sent.server}, which is not used now: it is run again")

    def _summed_up(self, batch: Batch, left: Left, code: int) -> int:
        """Tells what was done; the exit code."""
        alone = self.order.is_single
        failed = batch.failed + (0 if self.order.tries_again else left.failed)
        made = left.done + batch.made
        todo = max(left.total - made - failed, 0)
        hints = {
            "--retry-failed runs those again": failed and not alone,
            "the same command goes on": todo or (failed and alone),
            "all were done before, another --output makes them anew": left.done == left.total,
        }
        self.report.ended(made, failed, todo, "; ".join(hint for hint, holds in hints.items() if holds))
        return FAILED if failed else code

    @asynccontextmanager
    async def _ready(self) -> AsyncIterator[tuple[Place, list[Template]]]:
        """A connection, and the workflows in a form that runs. What is fatal is told to the report."""
        try:
            self.order.load()
            async with AsyncExitStack() as stack:
                place = await self._connected(stack)
                classes = self.order.class_types
                known = await self.where.declared(classes) if classes else []
                yield place, self.order.templates(known)
        except ComfyError as error:
            self.report.fatal(error)
            raise

    async def _connected(self, stack: AsyncExitStack) -> Place:
        try:
            return await stack.enter_async_context(self.where.opened())
        except NetworkError as error:
            if any(workflow.format == "ui" for workflow in self.order.loaded.values()):
                error.hint += NEEDS_SERVER
            raise
