"""The jobs API: /api/jobs, one job, and cancelling (ComfyUI comfy_execution/jobs.py, server.py)."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from async_comfy.testing.prompt_queue import Prompt, Record

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
SORTS = ("created_at", "execution_duration")
PREVIEWABLE = (
    "images",
    "video",
    "audio",
    "3d",
    "text",
    "gifs",
)  # kinds of output that a list of jobs can show


class JobRoutes:
    """The jobs of one server. They live under /api only."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server

    def table(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/api/jobs", self.jobs),
            web.get("/api/jobs/{job_id}", self.job),
            web.post("/api/jobs/cancel", self.cancel_several),
            web.post("/api/jobs/{job_id}/cancel", self.cancel),
        ]

    async def jobs(self, request: web.Request) -> web.Response:
        """GET /api/jobs: newest first, by `status`, sorted by `sort_by`, in pages."""
        query = request.query
        statuses = [status.strip() for status in query.get("status", "").split(",") if status.strip()]
        wrong = [status for status in statuses if status not in STATUSES]
        if wrong:
            return _bad(f"Invalid status value(s): {', '.join(wrong)}. Valid values: {', '.join(STATUSES)}")
        sort_by, order = query.get("sort_by", "created_at"), query.get("sort_order", "desc")
        if sort_by not in SORTS:
            return _bad("sort_by must be 'created_at' or 'execution_duration'")
        if order not in ("asc", "desc"):
            return _bad("sort_order must be 'asc' or 'desc'")
        try:
            limit, offset = _page(query.get("limit"), query.get("offset"))
        except ValueError as error:
            return _bad(str(error))
        wanted = query.get("workflow_id")
        found = [
            job
            for job in self._all()
            if (not statuses or job["status"] in statuses) and wanted in (None, job.get("workflow_id"))
        ]
        found.sort(key=_sort_key(sort_by), reverse=order == "desc")
        shown = found[offset:] if limit is None else found[offset : offset + limit]
        more = offset + len(shown) < len(found)
        page = {"offset": offset, "limit": limit, "total": len(found), "has_more": more}
        return web.json_response({"jobs": shown, "pagination": page})

    async def job(self, request: web.Request) -> web.Response:
        """GET /api/jobs/{id}: looks at the queue first and at the history then, so it never loses one."""
        job_id, queue = request.match_info["job_id"], self.server.queue
        if (prompt := queue.find_running(job_id)) is not None:
            return web.json_response({**_unfinished(prompt, "in_progress"), **_asked(prompt)})
        for prompt in queue.pending:
            if prompt.prompt_id == job_id:
                return web.json_response({**_unfinished(prompt, "pending"), **_asked(prompt)})
        record = queue.record(job_id)
        if record is None:
            return web.json_response({"error": "Job not found"}, status=404)
        whole = {"outputs": record.outputs, "execution_status": record.status, **_asked(record.prompt)}
        return web.json_response({**_finished(record), **whole})

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /api/jobs/{id}/cancel: whether there was something to cancel. Takes any text for an id."""
        return web.json_response({"cancelled": self._cancel(request.match_info["job_id"])})

    async def cancel_several(self, request: web.Request) -> web.Response:
        """POST /api/jobs/cancel: whether any of `job_ids` was cancelled."""
        job_ids = (await request.json()).get("job_ids")
        if not isinstance(job_ids, list) or not job_ids:
            return _bad("job_ids must be a non-empty list")
        wrong = [str(job_id) for job_id in job_ids if not _is_id(job_id)]
        if wrong:
            answer = {"error": "job_ids contains invalid id(s)", "invalid_ids": wrong}
            return web.json_response(answer, status=400)
        cancelled = [self._cancel(job_id) for job_id in job_ids]
        return web.json_response({"cancelled": any(cancelled)})

    def _cancel(self, job_id: str) -> bool:
        if self.server.queue.delete(job_id):
            return True
        if self.server.queue.find_running(job_id) is None:
            return False
        self.server.interrupt()
        return True

    def _all(self) -> Iterator[dict[str, Any]]:
        for prompt in self.server.queue.running.values():
            yield _unfinished(prompt, "in_progress")
        for prompt in self.server.queue.pending:
            yield _unfinished(prompt, "pending")
        for record in self.server.queue.records():
            yield _finished(record)


def _unfinished(prompt: Prompt, status: str) -> dict[str, Any]:
    return {
        **_head(prompt, status),
        "outputs_count": 0,
        "previewable_outputs_count": 0,
        **_workflow_id(prompt),
    }


def _finished(record: Record) -> dict[str, Any]:
    messages = dict(record.status["messages"])
    error = messages.get("execution_error")
    status = "completed" if record.status["completed"] else "failed" if error else "cancelled"
    ends = [
        data["timestamp"]
        for kind, data in messages.items()
        if kind not in ("execution_start", "execution_cached")
    ]
    items = list(_items(record.outputs))
    preview = [item for item in items if item["mediaType"] in PREVIEWABLE]
    best = next((item for item in preview if item.get("type") == "output"), next(iter(preview), None))
    return {
        **_head(record.prompt, status),
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": ends[-1] if ends else None,
        **({"execution_error": error} if status == "failed" else {}),
        "outputs_count": len(items),
        "previewable_outputs_count": len(preview),
        **({"preview_output": best} if best is not None else {}),
        **_workflow_id(record.prompt),
    }


def _head(prompt: Prompt, status: str) -> dict[str, Any]:
    return {
        "id": prompt.prompt_id,
        "status": status,
        "priority": prompt.number,
        "create_time": prompt.extra_data.get("create_time"),
    }


def _asked(prompt: Prompt) -> dict[str, Any]:
    return {"workflow": {"prompt": prompt.graph, "extra_data": prompt.extra_data}}


def _workflow_id(prompt: Prompt) -> dict[str, Any]:
    workflow = (prompt.extra_data.get("extra_pnginfo") or {}).get("workflow") or {}
    return {"workflow_id": workflow["id"]} if "id" in workflow else {}


def _items(outputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each thing that was shown: files as they are, texts as text."""
    for node_id, shown in outputs.items():
        for kind, items in shown.items():
            if kind == "animated" or not isinstance(items, list | tuple):
                continue
            for item in items:
                told = item if isinstance(item, dict) else {"content": item, "type": "text"}
                yield {**told, "nodeId": node_id, "mediaType": kind}


def _sort_key(sort_by: str) -> Any:
    if sort_by == "created_at":
        return lambda job: (job["create_time"] or 0, job["priority"])
    return lambda job: (job.get("execution_end_time") or 0) - (job.get("execution_start_time") or 0)


def _page(limit: str | None, offset: str | None) -> tuple[int | None, int]:
    """The numbers of a page. Raises: `ValueError` with what the server says."""
    numbers: dict[str, int | None] = {}
    for name, text in (("limit", limit), ("offset", offset)):
        try:
            numbers[name] = None if text is None else int(text)
        except ValueError:
            raise ValueError(f"{name} must be an integer") from None
    if numbers["limit"] is not None and numbers["limit"] <= 0:
        raise ValueError("limit must be a positive integer")
    return numbers["limit"], max(0, numbers["offset"] or 0)


def _is_id(job_id: Any) -> bool:
    try:
        return isinstance(job_id, str) and bool(uuid.UUID(job_id))
    except ValueError:
        return False


def _bad(error: str) -> web.Response:
    return web.json_response({"error": error}, status=400)
