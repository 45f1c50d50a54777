"""What runs, waits and ended: /queue, /history, /api/jobs."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from async_comfy._live.api.answers import as_object, prompt_segment, query, shaped, under_api
from async_comfy._live.http import Answer, Http
from async_comfy.errors import NotComfyUI, NotFound
from async_comfy.protocol.recovery import HistoryEntry, Queued, read_history, read_queue

HISTORY_ITEMS = 100  # unbounded, a long-lived server answers with hundreds of megabytes
JOBS_PAGE = 100  # jobs in one answer; a few hundred bytes each

JobStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
JobOrder = Literal["created_at", "execution_duration"]


class JobPage(NamedTuple):
    """Some jobs as the server says them, of `total`, from `offset` on; `has_more`: others follow."""

    jobs: list[dict[str, Any]]
    total: int
    offset: int
    has_more: bool


class _Pagination(msgspec.Struct, frozen=True):
    total: int
    offset: int = 0
    has_more: bool = False


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[dict[str, Any]]
    pagination: _Pagination


class Queue:
    """GET and POST /queue: what runs and what waits, everybody's."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def ids(self) -> Queued:
        """The prompt ids that run and that wait. Raises: NotComfyUI and what `Http.get` does."""
        answer = await self._http.get("/queue")
        try:
            return read_queue(answer.body)
        except ValueError:
            answer.json("GET /queue")
            raise NotComfyUI("What answers there has no queue.", hint="Check the address.") from None

    async def items(self) -> dict[str, list[Any]]:
        """The whole queue as the server says it, prompts included."""
        return as_object(await self._http.get("/queue"), "GET /queue")

    async def remaining(self) -> int:
        """How many prompts run or wait (GET /prompt): the cheapest sign of life."""
        body = (await self._http.get("/prompt")).json("GET /prompt")
        try:
            return int(body["exec_info"]["queue_remaining"])
        except (TypeError, KeyError, ValueError):
            raise NotComfyUI(
                f"What answers at {self._http.access} is not ComfyUI.", hint="Check the address and the port."
            ) from None

    async def delete(self, prompt_ids: Sequence[str]) -> None:
        """Takes waiting prompts out; of those that run or are unknown nothing happens."""
        await self._http.post("/queue", {"delete": list(prompt_ids)})

    async def clear(self) -> None:
        """Takes out everything that waits, everybody's."""
        await self._http.post("/queue", {"clear": True})


class History:
    """GET and POST /history: what ended, and what it made."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def entry(self, prompt_id: str) -> HistoryEntry | None:
        """One prompt's end; None while it runs or where nobody knows it."""
        answer = await self._http.get(f"/history/{prompt_segment(prompt_id)}")
        try:
            return read_history(answer.body, prompt_id)
        except ValueError:
            raise NotComfyUI("The answer to GET /history is no history.", hint="Check the address.") from None

    async def get(self, prompt_id: str) -> dict[str, Any] | None:
        """One prompt's entry as the server says it, its prompt included; None where there is none."""
        body = (await self._http.get(f"/history/{prompt_segment(prompt_id)}")).json("GET /history")
        found = body.get(prompt_id) if isinstance(body, dict) else None
        return found if isinstance(found, dict) else None

    async def list(self, max_items: int = HISTORY_ITEMS, offset: int | None = None) -> dict[str, Any]:
        """Entries by prompt id, verbatim: the newest, or from the `offset`-th oldest on."""
        params = query(max_items=max_items, offset=offset)
        return as_object(await self._http.get("/history", params), "GET /history")

    async def delete(self, prompt_ids: Sequence[str]) -> None:
        """Forgets these entries; the files stay."""
        await self._http.post("/history", {"delete": list(prompt_ids)})

    async def clear(self) -> None:
        """Forgets all entries, everybody's."""
        await self._http.post("/history", {"clear": True})


class Jobs:
    """GET /api/jobs and their cancel: servers from 0.5 on."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def page(
        self,
        *,
        status: Sequence[JobStatus] = (),
        workflow_id: str | None = None,
        sort_by: JobOrder = "created_at",
        ascending: bool = False,
        limit: int = JOBS_PAGE,
        offset: int = 0,
    ) -> JobPage:
        """Up to `limit` jobs from `offset` on, those of any `status` in it alone, the newest first.

        Raises: NotFound on older servers; UnexpectedAnswer for what the server refuses.
        """
        order = "asc" if ascending else "desc"
        params = query(
            status=status,
            workflow_id=workflow_id,
            sort_by=sort_by,
            sort_order=order,
            limit=limit,
            offset=offset,
        )
        return _page(await self._http.get(self._path(""), params))

    async def list(self) -> list[dict[str, Any]]:
        """The newest jobs, pending, running and ended, a page of them. Raises: NotFound on older servers."""
        return (await self.page()).jobs

    async def all(
        self,
        *,
        status: Sequence[JobStatus] = (),
        workflow_id: str | None = None,
        sort_by: JobOrder = "created_at",
        ascending: bool = False,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every job, asked for page by page; one that comes meanwhile may show another twice."""
        offset, more = 0, True
        while more:
            page = await self.page(
                status=status, workflow_id=workflow_id, sort_by=sort_by, ascending=ascending, offset=offset
            )
            for job in page.jobs:
                yield job
            offset, more = offset + len(page.jobs), page.has_more and bool(page.jobs)

    async def get(self, prompt_id: str) -> dict[str, Any] | None:
        """One job, None where the server knows none. Raises: NotFound on older servers."""
        try:
            return as_object(
                await self._http.get(self._path(f"/{prompt_segment(prompt_id)}")), "GET /api/jobs"
            )
        except NotFound as error:
            if "Job not found" in error.body:
                return None
            raise

    async def cancel(self, prompt_id: str) -> bool:
        """Asks to stop this job and no other; whether the server says that it did. Repeat until it is over.

        Raises: NotFound on older servers.
        """
        answer = await self._http.post(self._path(f"/{prompt_segment(prompt_id)}/cancel"), {})
        return bool(as_object(answer, "POST /api/jobs").get("cancelled"))

    async def cancel_several(self, prompt_ids: Sequence[str]) -> bool:
        """Asks to stop these jobs; whether the server says that it stopped any.

        Raises: UnexpectedAnswer where one is no UUID, and then none is stopped; NotFound on older servers.
        """
        if not prompt_ids:
            return False  # the server refuses an empty list
        answer = await self._http.post(self._path("/cancel"), {"job_ids": list(prompt_ids)})
        return bool(as_object(answer, "POST /api/jobs/cancel").get("cancelled"))

    def _path(self, rest: str) -> str:
        return under_api(self._http, f"/jobs{rest}")


def _page(answer: Answer) -> JobPage:
    found = shaped(answer, "GET /api/jobs", _Jobs)
    about = found.pagination
    return JobPage(found.jobs, about.total, about.offset, about.has_more)
