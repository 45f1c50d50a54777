"""Every route that a local server serves is asked through its call: simulated servers, and a real one.

`CALLS` has one entry for each row of the table in docs/rest.md; tests/live/rest/test_table.py holds the
two together.
"""

import asyncio
import json
import re
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from async_comfy import Asset, CallerError, ModelFile, NotFound, Session
from async_comfy._live.http import Answer
from async_comfy.testing import SimulatedServer
from tests.conformance.conftest import REAL
from tests.live.pictures import picture
from tests.live.rest.schemas import LIVE, judged

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"
MODEL = "tiny.safetensors"
NEWER = "features jobs node_replacements global_subgraphs assets tags"
"""The first segments of routes that a 0.3.40 server does not have."""
ABSENT_IS_EMPTY = {"GET /features", "GET /node_replacements", "GET /global_subgraphs"}


@dataclass
class World:
    """A session at one server. `simulated` is None where the server is real."""

    session: Session
    fresh: int
    simulated: SimulatedServer | None
    sent: list[str]
    """What the session asked for: "GET /queue"."""
    odd: set[str]
    """What in the answers is not as their schemas say."""

    def lacks(self, what: str) -> None:
        """A real server may have nothing to show; a simulated one was given something."""
        assert self.simulated is None, f"the simulated server should have {what}"
        pytest.skip(f"this server has no {what}")

    async def asset(self) -> Asset:
        """An asset of this test alone."""
        data = f"conformance {self.fresh} {uuid.uuid4()}".encode()
        return await self.session.assets.create(data, "told.txt", tags=["input", f"told-{self.fresh}"])


def furnish(root: Path) -> None:
    """A model with a head and a picture, a template, a subgraph."""
    head = json.dumps({"__metadata__": {"modelspec.title": "tiny"}}).encode()
    models = root / "models" / "checkpoints"
    models.mkdir(parents=True)
    (models / MODEL).write_bytes(struct.pack("<Q", len(head)) + head)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(models / "tiny.png")
    for folder in ("example_workflows", "subgraphs"):
        place = root / "custom_nodes" / "pack" / folder
        place.mkdir(parents=True)
        (place / "one.json").write_text('{"nodes": []}')
    place = root / "templates"
    place.mkdir()
    (place / "one.json").write_text('{"nodes": []}')
    (place / "index.json").write_text('[{"templates": [{"name": "one", "title": "One"}]}]')


@pytest.fixture(params=["0.3.40", "0.33", *(["real"] if REAL else [])])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, SimulatedServer | None]]:
    """The address of a server and, where we made it, the server."""
    if request.param == "real":
        assert REAL is not None
        yield REAL, None
        return
    furnish(tmp_path)
    server = SimulatedServer(profile=request.param, folder=tmp_path, models={"checkpoints": [MODEL]})
    server.flags["assets"] = True
    with server.in_thread():
        yield server.url, server


@pytest.fixture
async def world(
    place: tuple[str, SimulatedServer | None], anyio_backend: object, fresh: int
) -> AsyncIterator[World]:
    async with Session(place[0]) as session:
        sent: list[str] = []
        odd: set[str] = set()
        ask, stream, deliver = session._http.ask, session._http.open, session._http.deliver

        def note(method: str, path: str) -> None:
            sent.append(f"{method} {path.removeprefix('/api')}")

        async def noted_and_judged(method: str, path: str, **more: Any) -> Answer:
            note(method, path)
            answer = await ask(method, path, **more)
            if answer.status in {200, 201} and "json" in answer.headers.get("Content-Type", ""):
                odd.update(judged(f"{method} {path}", answer.json(path)))
            return answer

        def noted(method: str, path: str, **more: Any) -> Any:
            note(method, path)
            return stream(method, path, **more)

        async def delivered(path: str, body: bytes) -> Answer:
            note("POST", path)
            return await deliver(path, body)

        watched: Any = session._http  # a real server tells nobody what it was asked
        watched.ask, watched.open, watched.deliver = noted_and_judged, noted, delivered
        yield World(session, fresh, place[1], sent, odd)


async def prompt(world: World) -> None:
    assert (await world.session.run(picture(world.fresh))).files


async def remaining(world: World) -> None:
    assert await world.session.queue.remaining() >= 0


async def queue_items(world: World) -> None:
    assert set(await world.session.queue.items()) == {"queue_running", "queue_pending"}


async def queue_delete(world: World) -> None:
    await world.session.queue.delete([NOBODY])


async def history_list(world: World) -> None:
    made = await world.session.run(picture(world.fresh))
    assert made.prompt_id in await world.session.history.list(1)


async def history_get(world: World) -> None:
    made = await world.session.run(picture(world.fresh))
    entry = await world.session.history.get(made.prompt_id)
    assert entry is not None
    assert entry["status"]["completed"] is True


async def history_delete(world: World) -> None:
    made = await world.session.run(picture(world.fresh))
    await world.session.history.delete([made.prompt_id])
    assert await world.session.history.get(made.prompt_id) is None


async def interrupt(world: World) -> None:
    await world.session.system.interrupt(NOBODY)


async def free(world: World) -> None:
    await world.session.system.free()


async def jobs_page(world: World) -> None:
    for _ in range(3):
        await world.session.run(picture(world.fresh))
    page = await world.session.jobs.page(status=["completed"], limit=2)
    assert (len(page.jobs), page.has_more) == (2, True)
    ids = [job["id"] async for job in world.session.jobs.all(status=["completed"], ascending=True)]
    assert len(ids) == len(set(ids)) == page.total
    assert page.jobs[0]["id"] == ids[-1]


async def jobs_get(world: World) -> None:
    made = await world.session.run(picture(world.fresh))
    job = await world.session.jobs.get(made.prompt_id)
    assert job is not None
    assert job["status"] == "completed"
    assert await world.session.jobs.get(NOBODY) is None


async def jobs_cancel(world: World) -> None:
    assert await world.session.jobs.cancel(NOBODY) is False


async def jobs_cancel_several(world: World) -> None:
    assert await world.session.jobs.cancel_several([]) is False
    assert await world.session.jobs.cancel_several([NOBODY]) is False


async def nodes_all(world: World) -> None:
    assert {"EmptyImage", "SaveImage"} <= set(await world.session.nodes.all())


async def nodes_get(world: World) -> None:
    assert "input" in await world.session.nodes.get("EmptyImage")


async def replacements(world: World) -> None:
    for old, ways in (await world.session.nodes.replacements()).items():
        assert all(way["old_node_id"] == old and way["new_node_id"] for way in ways)


async def stats(world: World) -> None:
    assert (await world.session.system.stats())["devices"]


async def features(world: World) -> None:
    assert isinstance(await world.session.system.features(), dict)


async def folder_paths(world: World) -> None:
    assert (await world.session.system.folder_paths())["checkpoints"]


async def extensions(world: World) -> None:
    assert all(path.endswith(".js") for path in await world.session.system.extensions())


async def translations(world: World) -> None:
    assert isinstance(await world.session.system.translations(), dict)


async def model_folders(world: World) -> None:
    assert {"checkpoints", "loras"} <= set(await world.session.models.folders())


async def model_list(world: World) -> None:
    names = await world.session.models.list("checkpoints")
    assert all(isinstance(name, str) for name in names)
    with pytest.raises(NotFound):
        await world.session.models.list("no-such-folder")


async def embeddings(world: World) -> None:
    assert not any(name.endswith(".safetensors") for name in await world.session.models.embeddings())


async def model_locations(world: World) -> None:
    (found,) = [f for f in await world.session.models.locations() if f.name == "checkpoints"]
    assert found.folders
    assert world.simulated is None or ".safetensors" in found.extensions  # 0.3.40 does not say


async def model_files(world: World) -> None:
    names = await world.session.models.list("checkpoints")
    files = await world.session.models.files("checkpoints")
    assert {file.name for file in files} == set(names)
    if await world.session.system.version() > (0, 3, 40):  # that one gives names alone
        assert all(file.size is not None and file.modified is not None for file in files)


async def model_preview(world: World) -> None:
    files = await world.session.models.files("checkpoints")
    if not files:
        world.lacks("checkpoint")
    for file in files:  # whatever letters and folders their names have
        shown = await world.session.models.preview("checkpoints", file)
        assert (world.simulated is None and shown is None) or (shown or b"").startswith(b"RIFF")
    gone = ModelFile("no-such-file.safetensors", files[0].path_index)
    assert await world.session.models.preview("checkpoints", gone) is None


async def model_metadata(world: World) -> None:
    assert await world.session.models.metadata("checkpoints", "no-such-file.safetensors") == {}
    if world.simulated is not None:
        told = await world.session.models.metadata("checkpoints", MODEL)
        assert told == {"modelspec.title": "tiny"}


async def view(world: World) -> None:
    (file,) = (await world.session.run(picture(world.fresh))).files
    whole = await world.session.files.view(file.filename, subfolder=file.subfolder)
    assert whole == await file.read()
    named = world.session.files.open(f"{file.subfolder}/{file.filename}".lstrip("/"))
    assert await named.read() == whole
    smaller = await world.session.files.view(file.filename, subfolder=file.subfolder, preview="webp;50")
    assert smaller.startswith(b"RIFF")
    with pytest.raises(NotFound, match=r"no-such-file\.png"):
        await world.session.files.view("no-such-file.png")


async def file_names(world: World) -> None:
    sent = await world.session.upload(f"told {world.fresh}".encode())
    assert sent.name in await world.session.files.list("input")


async def video(world: World) -> None:
    with pytest.raises(NotFound):  # it comes with nodes that are not part of the server
        await world.session.files.video("no-such-video.mp4")


async def upload_image(world: World) -> None:
    sent = await world.session.upload(Image.new("RGB", (4, 4), world.fresh))
    assert sent.folder == "input"


async def upload_mask(world: World) -> None:
    of = await world.session.upload(Image.new("RGBA", (4, 4), (world.fresh % 256, 0, 0, 255)))
    mask = await world.session.upload(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), mask_of=of)
    assert mask.name in await world.session.files.list("input")


async def userdata_list(world: World) -> None:
    name = f"conformance-{world.fresh}/größe ä.json"
    await world.session.userdata.put(f"workflows/{name}", b"{}")
    assert name in {file.path for file in await world.session.userdata.list()}
    assert await world.session.userdata.list("no-such-folder") == []


async def userdata_tree(world: World) -> None:
    await world.session.userdata.put(f"workflows/conformance-{world.fresh}.json", b"{}")
    found = {entry.path: entry.type for entry in await world.session.userdata.tree()}
    assert found["workflows"] == "directory"
    assert found[f"workflows/conformance-{world.fresh}.json"] == "file"


async def userdata_get(world: World) -> None:
    await world.session.userdata.put(f"conformance-{world.fresh}.bin", b"\x00\xff")
    assert await world.session.userdata.get(f"conformance-{world.fresh}.bin") == b"\x00\xff"
    with pytest.raises(NotFound):
        await world.session.userdata.get("no-such-file")


async def userdata_put(world: World) -> None:
    name = f"conformance-{world.fresh}.txt"
    assert (await world.session.userdata.put(name, b"one")).size == 3
    with pytest.raises(CallerError, match="already"):
        await world.session.userdata.put(name, b"two", overwrite=False)
    assert await world.session.userdata.get(name) == b"one"


async def userdata_move(world: World) -> None:
    name, other = f"conformance-{world.fresh}.a", f"conformance-{world.fresh}.b"
    await world.session.userdata.put(name, b"one")
    assert (await world.session.userdata.move(name, other)).path == other
    await world.session.userdata.put(name, b"two")
    with pytest.raises(CallerError, match="already"):
        await world.session.userdata.move(name, other)
    assert await world.session.userdata.get(other) == b"one"


async def userdata_delete(world: World) -> None:
    name = f"conformance-{world.fresh}.gone"
    await world.session.userdata.put(name, b"")
    assert await world.session.userdata.delete(name) is True
    assert await world.session.userdata.delete(name) is False


async def settings_all(world: World) -> None:
    await world.session.settings.set(f"Conformance.{world.fresh}", None)
    assert f"Conformance.{world.fresh}" in await world.session.settings.all()


async def settings_get(world: World) -> None:
    assert await world.session.settings.get("Conformance.never") is None


async def settings_set(world: World) -> None:
    value = {"list": [1, "ä", None]}
    await world.session.settings.set(f"Conformance.{world.fresh}", value)
    assert await world.session.settings.get(f"Conformance.{world.fresh}") == value


async def settings_update(world: World) -> None:
    one, two = f"Conformance.{world.fresh}.one", f"Conformance.{world.fresh}.two"
    await world.session.settings.update({one: 1, two: 1})
    await world.session.settings.update({two: 2})
    found = await world.session.settings.all()
    assert (found[one], found[two]) == (1, 2)


async def users_list(world: World) -> None:
    assert all(isinstance(name, str) for name in (await world.session.users.list()).values())


async def users_add(world: World) -> None:
    assert (await world.session.users.add(f"told-{world.fresh}")).startswith("told")
    with pytest.raises(CallerError, match="Duplicate"):
        await world.session.users.add(f"told-{world.fresh}")


async def templates_list(world: World) -> None:
    listed = await world.session.templates.list()
    assert world.simulated is None or listed == {"pack": ["one"]}


async def template(world: World) -> None:
    listed = await world.session.templates.list()
    if not listed:
        world.lacks("template")
    package, names = next(iter(listed.items()))
    assert "nodes" in await world.session.templates.get(package, names[0])


async def templates_of_the_editor(world: World) -> None:
    listed = await world.session.templates.editor()
    assert world.simulated is None or [(one.name, one.title) for one in listed] == [("one", "One")]


async def template_of_the_editor(world: World) -> None:
    listed = await world.session.templates.editor()
    if not listed:
        world.lacks("template of the editor")
    assert "nodes" in await world.session.templates.from_editor(listed[0].name)


async def subgraphs_list(world: World) -> None:
    assert all(found.name and found.data is None for found in (await world.session.subgraphs.list()).values())


async def subgraph(world: World) -> None:
    assert await world.session.subgraphs.get("no-such-subgraph") is None
    listed = await world.session.subgraphs.list()
    if not listed:
        world.lacks("subgraph")
    found = await world.session.subgraphs.get(next(iter(listed)))
    assert found is not None
    assert "nodes" in json.loads(found.data or "")


async def logs_text(world: World) -> None:
    await world.session.run(picture(world.fresh))
    assert "got prompt" in await world.session.logs.text()


async def logs_entries(world: World) -> None:
    await world.session.run(picture(world.fresh))
    assert any("got prompt" in entry.text for entry in await world.session.logs.entries())


async def logs_follow(world: World) -> None:
    """A line that is logged later comes; jobs are sent until it does, since nobody says when it listens."""

    async def wait_for_line() -> None:
        async for entry in world.session.logs.follow():
            if "got prompt" in entry.text:
                return

    following = asyncio.create_task(wait_for_line())
    for _ in range(100):
        await world.session.run(picture(world.fresh))
        if following.done():
            break
    await following


async def assets_list(world: World) -> None:
    made = await world.asset()
    page = await world.session.assets.list(include_tags=[f"told-{world.fresh}"], limit=1)
    assert [asset.id for asset in page.assets] == [made.id]
    assert page.total == 1


async def assets_create(world: World) -> None:
    made = await world.asset()
    assert made.created_new
    assert (made.name, made.hash and made.hash[:7]) == ("told.txt", "blake3:")
    assert f"told-{world.fresh}" in made.tags


async def assets_from_hash(world: World) -> None:
    made = await world.asset()
    other = await world.session.assets.from_hash(made.hash or "", name="other", tags=["again"])
    assert other.id != made.id
    assert (other.hash, other.name) == (made.hash, "other")


async def assets_has(world: World) -> None:
    made = await world.asset()
    assert await world.session.assets.has(made.hash or "") is True
    assert await world.session.assets.has("blake3:" + "0" * 64) is False
    with pytest.raises(CallerError, match="no hash"):
        await world.session.assets.has("md5:0")


async def assets_get(world: World) -> None:
    made = await world.asset()
    assert (await world.session.assets.get(made.id)).hash == made.hash
    with pytest.raises(NotFound):
        await world.session.assets.get(NOBODY)


async def assets_content(world: World) -> None:
    made = await world.asset()
    content = await world.session.assets.content(made.id)
    assert str(world.fresh).encode() in content
    file = world.session.assets.open(made)
    assert await file.read() == content
    assert b"".join([chunk async for chunk in file.stream(start=7)]) == content[7:]


async def assets_update(world: World) -> None:
    made = await world.asset()
    changed = await world.session.assets.update(made.id, name="renamed", metadata={"rating": 5})
    assert (changed.name, changed.user_metadata["rating"]) == ("renamed", 5)
    with pytest.raises(CallerError, match="Nothing"):
        await world.session.assets.update(made.id)


async def assets_delete(world: World) -> None:
    made = await world.asset()
    await world.session.assets.delete(made.id)
    with pytest.raises(NotFound):
        await world.session.assets.get(made.id)


async def assets_add_tags(world: World) -> None:
    made = await world.asset()
    change = await world.session.assets.add_tags(made.id, ["blue", "input"])
    assert (change.added, change.already_present) == (["blue"], ["input"])


async def assets_remove_tags(world: World) -> None:
    made = await world.asset()
    change = await world.session.assets.remove_tags(made.id, [f"told-{world.fresh}", "absent"])
    assert (change.removed, change.not_present) == ([f"told-{world.fresh}"], ["absent"])


async def tags(world: World) -> None:
    await world.asset()
    page = await world.session.assets.tags(prefix=f"told-{world.fresh}")
    assert [(tag.name, tag.count) for tag in page.tags] == [(f"told-{world.fresh}", 1)]


async def tag_counts(world: World) -> None:
    await world.asset()
    counts = await world.session.assets.tag_counts(include_tags=[f"told-{world.fresh}"])
    assert counts[f"told-{world.fresh}"] == 1


async def seed(world: World) -> None:
    assert await world.session.assets.seed(["input"], wait=True) is True


async def scan(world: World) -> None:
    assert (await world.session.assets.scan()).state


async def cancel_seed(world: World) -> None:
    assert await world.session.assets.cancel_seed() is False


async def prune(world: World) -> None:
    assert await world.session.assets.prune() >= 0


CALLS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "GET /prompt": remaining,
    "POST /prompt": prompt,
    "GET /queue": queue_items,
    "POST /queue": queue_delete,
    "GET /history": history_list,
    "GET /history/{prompt_id}": history_get,
    "POST /history": history_delete,
    "GET /jobs": jobs_page,
    "GET /jobs/{job_id}": jobs_get,
    "POST /jobs/{job_id}/cancel": jobs_cancel,
    "POST /jobs/cancel": jobs_cancel_several,
    "POST /interrupt": interrupt,
    "POST /free": free,
    "GET /object_info": nodes_all,
    "GET /object_info/{name}": nodes_get,
    "GET /node_replacements": replacements,
    "GET /system_stats": stats,
    "GET /features": features,
    "GET /extensions": extensions,
    "GET /i18n": translations,
    "GET /models": model_folders,
    "GET /models/{folder}": model_list,
    "GET /embeddings": embeddings,
    "GET /experiment/models": model_locations,
    "GET /experiment/models/{folder}": model_files,
    "GET /experiment/models/preview/{folder}/{path_index}/{filename}": model_preview,
    "GET /view_metadata/{folder}": model_metadata,
    "GET /view": view,
    "POST /upload/image": upload_image,
    "POST /upload/mask": upload_mask,
    "GET /vhs/queryvideo": video,
    "GET /userdata": userdata_list,
    "GET /v2/userdata": userdata_tree,
    "GET /userdata/{file}": userdata_get,
    "POST /userdata/{file}": userdata_put,
    "POST /userdata/{file}/move/{dest}": userdata_move,
    "DELETE /userdata/{file}": userdata_delete,
    "GET /settings": settings_all,
    "POST /settings": settings_update,
    "GET /settings/{id}": settings_get,
    "POST /settings/{id}": settings_set,
    "GET /users": users_list,
    "POST /users": users_add,
    "GET /workflow_templates": templates_list,
    "GET /workflow_templates/{package}/{file}": template,
    "GET /templates/index.json": templates_of_the_editor,
    "GET /templates/{file}": template_of_the_editor,
    "GET /global_subgraphs": subgraphs_list,
    "GET /global_subgraphs/{id}": subgraph,
    "GET /assets": assets_list,
    "POST /assets": assets_create,
    "POST /assets/from-hash": assets_from_hash,
    "HEAD /assets/hash/{hash}": assets_has,
    "GET /assets/{id}": assets_get,
    "PUT /assets/{id}": assets_update,
    "DELETE /assets/{id}": assets_delete,
    "GET /assets/{id}/content": assets_content,
    "POST /assets/{id}/tags": assets_add_tags,
    "DELETE /assets/{id}/tags": assets_remove_tags,
    "GET /assets/tags/refine": tag_counts,
    "POST /assets/seed": seed,
    "GET /assets/seed/status": scan,
    "POST /assets/seed/cancel": cancel_seed,
    "POST /assets/prune": prune,
    "GET /tags": tags,
    "GET /internal/logs": logs_text,
    "GET /internal/logs/raw": logs_entries,
    "PATCH /internal/logs/subscribe": logs_follow,
    "GET /internal/folder_paths": folder_paths,
    "GET /internal/files/{kind}": file_names,
}


def asked(route: str, world: World) -> bool:
    """Whether a request to that route came in; a real server is believed to get what was sent."""
    pattern = re.compile(re.sub(r"\{\w+\}", ".+", route))
    came = world.sent
    if world.simulated is not None:
        came = [f"{seen.method} {seen.path}" for seen in world.simulated.requests]
    return any(pattern.fullmatch(request) for request in came)


@pytest.mark.parametrize("route", CALLS)
async def test_a_route_is_asked_and_its_answer_is_understood(world: World, route: str) -> None:
    """Its call makes that request, and says what the server said; older servers: NotFound, or empty."""
    newer = route.split("/")[1] in NEWER.split()
    if newer and route not in ABSENT_IS_EMPTY and not await has(world, route):
        with pytest.raises(NotFound):
            await CALLS[route](world)
    else:
        await CALLS[route](world)
        assert asked(route, world)
    assert world.odd - LIVE == set()


async def has(world: World, route: str) -> bool:
    """Whether a server has the group that a route belongs to. A simulated one says so itself."""
    if world.simulated is not None:
        return world.simulated.profile.assets
    session = world.session
    try:
        if route.split("/")[1] in {"assets", "tags"}:
            await session.assets.scan()
        elif route.split("/")[1] == "global_subgraphs":
            await session.subgraphs.get("no-such-subgraph")
        else:
            await session.jobs.page(limit=1)
    except NotFound:
        return False
    return True


async def test_assets_that_are_switched_off_are_said_to_be(anyio_backend: object) -> None:
    """503 by default: the error says how to start the server."""
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(NotFound, match="--enable-assets"):
            await session.assets.list()
        with pytest.raises(NotFound, match="--enable-assets"):
            await session.assets.create(b"", "name")
        with pytest.raises(NotFound, match="--enable-assets"):
            await session.assets.has("blake3:" + "0" * 64)
