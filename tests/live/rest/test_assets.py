"""Assets of any size: streamed there and back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from async_comfy import Asset, CallerError, File, NotFound, Session, UnexpectedAnswer
from async_comfy.testing import SimulatedServer

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 4096  # a megabyte: several reads


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[Session]:
    server = SimulatedServer()
    server.flags["assets"] = True
    async with server, Session(server.url) as session:
        yield session


async def test_whatever_holds_bytes_becomes_an_asset(session: Session, tmp_path: Path) -> None:
    """Path, bytes, a stream, a `File`: the same content, under the name given or the source's own."""
    path = tmp_path / 'große "Datei".bin'
    path.write_bytes(DATA)

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 100_000):
            yield DATA[at : at + 100_000]

    made = [
        await session.assets.create(path),
        await session.assets.create(DATA, "other.bin"),
        await session.assets.create(stream(), "other.bin"),
        await session.assets.create(File(path, name="third.bin")),
    ]
    assert [asset.name for asset in made] == [path.name, "other.bin", "other.bin", "third.bin"]
    assert {asset.hash for asset in made} == {made[0].hash}
    assert made[0].size == len(DATA)


async def test_bytes_without_a_name_and_a_file_that_is_not_there_are_refused(
    session: Session, tmp_path: Path
) -> None:
    with pytest.raises(CallerError, match="needs a name"):
        await session.assets.create(DATA)
    with pytest.raises(CallerError, match="Cannot read absent"):
        await session.assets.create(tmp_path / "absent")


async def test_content_is_read_streamed_and_saved(session: Session, tmp_path: Path) -> None:
    """Like the files of a result; also from the middle, of which the server knows nothing."""
    asset = await session.assets.create(DATA, "told.png", tags=["output"])
    file = session.assets.open(asset)
    assert (file.folder, file.media_type, file.filename) == ("output", "image/png", "told.png")
    assert await file.read() == DATA
    assert b"".join([chunk async for chunk in file.stream(start=len(DATA) - 3)]) == DATA[-3:]
    assert (await file.save(tmp_path / "here.bin")).read_bytes() == DATA
    await session.assets.delete(asset.id)
    with pytest.raises(NotFound):
        await file.read()


async def test_content_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """The route knows no Range: it begins again, and what is known is skipped."""
    asked = []

    async def content(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        response = web.StreamResponse()
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA if len(asked) == 3 else DATA[: 300_000 * len(asked)])
        if len(asked) < 3:
            assert request.transport is not None
            request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/api/assets/{id}/content", content)
    async with TestServer(app) as server:
        session = Session(str(server.make_url("/")))
        async with session._http:
            file = session.assets.open(Asset(id="1-2", name="x"))
            assert (await file.save(tmp_path / "x")).read_bytes() == DATA
    assert asked == ["/api/assets/1-2/content"] * 3


async def test_a_refusal_is_the_server_s_own_sentence(session: Session) -> None:
    """Of its JSON, what is meant for people."""
    with pytest.raises(UnexpectedAnswer) as refused:
        await session.assets.create(DATA, "x", tags=["nowhere"])
    assert "{" not in str(refused.value)
    assert "\n" not in str(refused.value)
