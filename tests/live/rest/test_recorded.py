"""What a real server once answered is understood by the call that would ask for it.

answers.jsonl: answers of a ComfyUI 0.33.0, a line each with the situation (21: as usual, 39: with assets and
several users, 40: odd requests); long lists and texts are cut short.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from async_comfy import CallerError, ComfyError, NotFound, Session, UnexpectedAnswer

pytestmark = pytest.mark.anyio

LINES = (Path(__file__).parent / "answers.jsonl").read_text().splitlines()
ANSWERS = {f"{line['in']} {line['request']}": line for line in map(json.loads, LINES) if line["status"] < 400}
REFUSALS = {
    f"{line['in']} {line['request']}": line for line in map(json.loads, LINES) if line["status"] >= 400
}
SEEN = "fb4402cd-69ce-4cbb-90a8-a462e9ce8c3b"

Call = Callable[[Session], Awaitable[Any]]


def answer(line: dict[str, Any]) -> web.Response:
    """A recorded answer, once more."""
    body = json.dumps(line["body"]) if line["type"] == "application/json" else line["body"]
    kind = line["type"] or "application/octet-stream"
    return web.Response(status=line["status"], body=(body or "").encode(), content_type=kind)


@asynccontextmanager
async def replaying(line: dict[str, Any]) -> AsyncIterator[Session]:
    """A session, without its event socket, at a server that gives one answer to whatever it is asked."""

    async def always(request: web.Request) -> web.Response:
        return answer(line)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", always)
    async with TestServer(app) as server:
        session = Session(str(server.make_url("/")))
        async with session._http:
            yield session


async def pages(session: Session) -> Any:
    return (await session.jobs.page()).jobs[0]["id"]


UNDERSTOOD: list[tuple[str, Call, Callable[[Any], bool]]] = [
    ("21 GET /system_stats", lambda s: s.system.version(), lambda v: v == (0, 33, 0)),
    ("21 GET /features", lambda s: s.system.features(), lambda v: v["assets"] is False),
    ("21 GET /queue", lambda s: s.queue.ids(), lambda v: not v.running | v.pending),
    ("21 GET /prompt", lambda s: s.queue.remaining(), lambda v: v == 0),
    ("21 GET /embeddings", lambda s: s.models.embeddings(), lambda v: v == []),
    ("21 GET /models", lambda s: s.models.folders(), lambda v: v == ["checkpoints", "configs"]),
    ("21 GET /models/checkpoints", lambda s: s.models.list("checkpoints"), lambda v: len(v) == 1),
    ("21 GET /extensions", lambda s: s.system.extensions(), lambda v: v[0].endswith(".js")),
    ("21 GET /users", lambda s: s.users.list(), lambda v: v == {}),
    ("39 GET /users", lambda s: s.users.list(), lambda v: v == {}),
    ("39 POST /users", lambda s: s.users.add("bob"), lambda v: v.startswith("bob_")),
    ("21 GET /workflow_templates", lambda s: s.templates.list(), lambda v: v == {}),
    (
        "21 GET /global_subgraphs",
        lambda s: s.subgraphs.list(),
        lambda v: all(found.info == {"node_pack": "comfyui"} for found in v.values()) and len(v) == 2,
    ),
    ("21 GET /node_replacements", lambda s: s.nodes.replacements(), lambda v: "ImageBatch" in v),
    (
        "21 GET /experiment/models",
        lambda s: s.models.locations(),
        lambda v: v[0].folders[0] == "/srv/comfyui/8201/models/checkpoints",
    ),
    (
        "21 GET /experiment/models/checkpoints",
        lambda s: s.models.files("checkpoints"),
        lambda v: (v[0].path_index, v[0].size) == (0, 302657614),
    ),
    ("21 GET /i18n", lambda s: s.system.translations(), lambda v: v == {}),
    ("21 GET /internal/logs", lambda s: s.logs.text(), lambda v: "got prompt" in v),
    ("21 GET /internal/logs/raw", lambda s: s.logs.entries(), lambda v: v[0].time.startswith("2026-11-20T")),
    (
        "21 GET /internal/folder_paths",
        lambda s: s.system.folder_paths(),
        lambda v: len(v["checkpoints"]) == 2,
    ),
    ("21 GET /internal/files/output", lambda s: s.files.list(), lambda v: v[0] == "rec_00038_.png"),
    ("21 GET /settings", lambda s: s.settings.all(), lambda v: v == {}),
    ("21 GET /v2/userdata", lambda s: s.userdata.tree(), lambda v: v == []),
    ("21 GET /object_info/EmptyImage", lambda s: s.nodes.get("EmptyImage"), lambda v: "input" in v),
    ("21 GET /history?max_items=2", lambda s: s.history.list(2), lambda v: len(v) == 2),
    ("21 GET /api/jobs?limit=1", pages, lambda v: v == SEEN),
    (
        "21 GET /api/jobs?offset=1&limit=1",
        lambda s: s.jobs.page(limit=1, offset=1),
        lambda v: (len(v.jobs), v.offset, v.has_more) == (1, 1, True) and v.total > 1,
    ),
    ("21 GET /api/jobs?status=failed", pages, bool),
    (f"21 GET /api/jobs/{SEEN}", lambda s: s.jobs.get(SEEN), lambda v: v["status"] == "completed"),
    ("40 GET /api/jobs?workflow_id=wf-1", lambda s: s.jobs.page(workflow_id="wf-1"), lambda v: v.total == 1),
    (
        "21 GET /userdata?dir=workflows&recurse=true&full_info=true",
        lambda s: s.userdata.list(),
        lambda v: [(file.path, file.size, file.modified) for file in v] == [("a.json", 7, 1795167544808)],
    ),
    (
        "21 POST /userdata/workflows%2Fa.json?full_info=true",
        lambda s: s.userdata.put("workflows/a.json", b"{"),
        lambda v: (v.path, v.size) == ("workflows/a.json", 1),
    ),
    ("21 DELETE /userdata/workflows%2Fb.json", lambda s: s.userdata.delete("b"), lambda v: v is True),
    (
        "39 GET /api/assets?limit=2",
        lambda s: s.assets.list(limit=2),
        lambda v: (
            (v.total, v.has_more, len(v.assets), bool(v.next_cursor)) == (9, True, 2, True)
            and v.assets[0].metadata["width"] == 32
        ),
    ),
]

REFUSED: list[tuple[str, Call, type[Exception], str]] = [
    ("21 GET /models/nope", lambda s: s.models.list("nope"), NotFound, "/models/nope"),
    ("21 GET /api/assets", lambda s: s.assets.list(), NotFound, "--enable-assets"),
    ("21 GET /api/tags", lambda s: s.assets.tags(), NotFound, "--enable-assets"),
    ("21 GET /api/assets/seed/status", lambda s: s.assets.scan(), NotFound, "--enable-assets"),
    ("21 GET /api/jobs?sort_by=zz", lambda s: s.jobs.page(), UnexpectedAnswer, "sort_by must be"),
    ("21 GET /api/jobs?limit=0", lambda s: s.jobs.page(limit=0), UnexpectedAnswer, "positive integer"),
    ("21 GET /history?max_items=abc", lambda s: s.history.list(), UnexpectedAnswer, "got itself in trouble"),
    (
        "21 POST /userdata/workflows%2Fa.json?overwrite=false",
        lambda s: s.userdata.put("workflows/a.json", b"", overwrite=False),
        CallerError,
        "overwrite=True",
    ),
    ("21 GET /userdata/nope.json", lambda s: s.userdata.get("nope.json"), NotFound, "nope.json"),
    ("39 GET /userdata?dir=workflows", lambda s: s.userdata.list(), UnexpectedAnswer, "500"),
]


@pytest.mark.parametrize(("name", "call", "holds"), UNDERSTOOD, ids=[case[0] for case in UNDERSTOOD])
async def test_an_answer_is_understood(name: str, call: Call, holds: Callable[[Any], bool]) -> None:
    async with replaying(ANSWERS[name]) as session:
        found = await call(session)
    assert holds(found), found


@pytest.mark.parametrize(("name", "call", "kind", "says"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_a_refusal_is_one_sentence(name: str, call: Call, kind: type[Exception], says: str) -> None:
    async with replaying(REFUSALS[name]) as session:
        with pytest.raises(kind, match=says):
            await call(session)


@pytest.mark.parametrize(
    ("name", "call", "tamed"),
    [
        ("21 GET /userdata?dir=workflows", lambda s: s.userdata.list(), []),
        ("21 DELETE /userdata/workflows%2Fb.json", lambda s: s.userdata.delete("b"), False),
        ("21 GET /api/jobs/c3ebc7e9-7d6e-4702-b933-4518fc75b472", lambda s: s.jobs.get(SEEN), None),
    ],
)
async def test_an_absence_is_no_error(name: str, call: Call, tamed: object) -> None:
    async with replaying(REFUSALS[name]) as session:
        assert await call(session) == tamed


@pytest.mark.parametrize("body", ["null", "[1]", "7", "<html>", "", '{"jobs": 3}'])
@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.jobs.page(),
        lambda s: s.assets.list(),
        lambda s: s.models.files("loras"),
        lambda s: s.userdata.put("a", b""),
        lambda s: s.users.add("a"),
        lambda s: s.subgraphs.list(),
        lambda s: s.logs.entries(),
        lambda s: s.system.folder_paths(),
    ],
)
async def test_an_answer_of_another_shape_is_said_to_be(call: Call, body: str) -> None:
    """Of something else that says 200: one of our errors, no traceback."""
    line = {"status": 200, "type": "text/html" if body == "<html>" else "application/x-json", "body": body}
    async with replaying(line) as session:
        with pytest.raises(ComfyError):
            await call(session)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret", "a/../../b", "a/./b", "..\\secret"])
async def test_a_name_that_leads_elsewhere_is_not_sent(name: str) -> None:
    async with replaying({"status": 200, "type": "application/json", "body": {}}) as session:
        for call in (
            session.userdata.get,
            session.userdata.delete,
            session.settings.get,
            session.models.list,
        ):
            with pytest.raises(CallerError, match="no name of a file"):
                await call(name)
        assert session._http.requests == 0


async def test_a_video_is_described() -> None:
    """As the VideoHelperSuite nodes say it."""
    about = {"source": {"fps": 24.0, "duration": 2.5, "frames": 60, "size": [640, 480]}}
    async with replaying({"status": 200, "type": "application/json", "body": about}) as session:
        assert (await session.files.video("a.mp4"))["source"]["frames"] == 60
