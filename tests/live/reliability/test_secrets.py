"""Promise 10: secrets appear in no repr, log, error or journal, and never go to another origin."""

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from async_comfy import ComfyError, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

SECRETS = {
    "bearer": "bearer-2f7c1d",
    "api_key": "apikey-9a41ee",
    "partner_key": "partner-77b0c3",
    "cookie": "cookie-5d12aa",
}
PASSWORD = "password-c0ffee"


def guarded(url: str, **more: Any) -> Session:
    """A session with one secret of every kind."""
    return Session(
        url,
        bearer=SECRETS["bearer"],
        api_key=SECRETS["api_key"],
        partner_key=SECRETS["partner_key"],
        cookies={"login": SECRETS["cookie"]},
        **more,
    )


def reprs() -> str:
    """What every object of ours that is alive shows of itself."""
    ours = [thing for thing in gc.get_objects() if _is_ours(str(type(thing).__module__))]
    assert len(ours) > 10
    return "\n".join(f"{thing!r} {thing!s}" for thing in ours)


def _is_ours(module: str) -> bool:
    return module.startswith("async_comfy.") and not module.startswith("async_comfy.testing")


async def troubles(server: SimulatedServer, session: Session) -> list[ComfyError]:
    """One error of each kind that a server can give us."""
    found: list[ComfyError] = []
    for trouble in (
        lambda: server.faults.deny(401, times=1),
        lambda: server.faults.deny(403, times=1),
        lambda: server.faults.demand_login(times=1),
        lambda: server.faults.answer(lambda request: True, 404, "no such route"),
        lambda: server.faults.answer(lambda request: True, 500, "oh dear"),
        lambda: server.faults.cut(lambda request: True, served=False, times=2),
    ):
        trouble()  # type: ignore[no-untyped-call]  # a lambda
        try:
            await session.system.stats()
        except ComfyError as error:
            found.append(error)
        server.faults.clear()
    workflow = picture(1)
    workflow["Paper"].inputs["width"] = -1
    with pytest.raises(ComfyError) as refused:
        await session.submit(workflow)
    return [*found, refused.value]


async def test_no_secret_is_ever_shown(caplog: pytest.LogCaptureFixture, tmp_path: Path, hasty: None) -> None:
    """All loggers at DEBUG, every repr and every error, over jobs, reconnects, refusals and a journal."""
    caplog.set_level(logging.DEBUG)
    for name in ("async_comfy", "aiohttp", "websockets", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    journal = tmp_path / "journal.sqlite"
    async with SimulatedServer(profile="next") as server:
        url = server.url.replace("http://", f"http://somebody:{PASSWORD}@")
        async with guarded(url, journal=journal) as session:
            result = await session.run(picture(2))
            await result.files[0].read()
            server.hold("node")
            job = await session.submit(picture(3))
            await server.until_at("node")
            await server.drop_sockets()
            await until(lambda: session.statistics().connections == 2)
            key = next(iter(server.sockets.credentials.values()))
            errors = await troubles(server, session)
            shown = reprs()
            written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            assert len(written) > 0
            server.release()
            await job
            sent = [dict(request.headers) for request in server.requests]
    told = "\n".join([caplog.text, shown, *(f"{error!r} {error} {vars(error)}" for error in errors)])
    assert any(SECRETS["bearer"] in str(headers) for headers in sent)
    for secret in (*SECRETS.values(), PASSWORD, key):
        assert secret not in told
        assert secret.encode() not in written


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """A server of another origin, and everything that it was sent."""
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {request.rel_url} {dict(request.headers)} {await request.text()}")
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_receives_nothing_secret(status: int) -> None:
    """GETs are followed without credentials; a POST and the event socket are not followed at all."""
    async with elsewhere() as (other, seen), SimulatedServer() as server, guarded(server.url) as session:
        headers = {"Location": f"{other}/stolen"}
        server.faults.answer(lambda request: True, status, headers=headers, times=3)
        await session.system.stats()
        with pytest.raises(ComfyError):
            await session.submit(picture(4))
        with pytest.raises(ComfyError):
            await guarded(server.url).open()
    assert [line.split()[0] for line in seen] == ["GET"]
    for secret in SECRETS.values():
        assert secret not in "".join(seen)


async def test_a_closed_port_names_the_address_and_no_secret() -> None:
    """The message of `Unreachable` is for people, also for those who read logs."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://somebody:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/base?token={PASSWORD}"
        session = guarded(url)
        with pytest.raises(ComfyError) as error:
            await session.open()
    assert PASSWORD not in f"{error.value!r}{error.value}{session!r}{vars(error.value)}"
    assert "127.0.0.1" in str(error.value)


async def test_a_cancelled_upload_or_submit_shows_no_secret_either(caplog: pytest.LogCaptureFixture) -> None:
    """What asyncio says of tasks that were cancelled or failed holds none."""
    caplog.set_level(logging.DEBUG)
    async with SimulatedServer() as server, guarded(server.url) as session:
        server.faults.slow(("POST", "/prompt"), 0.2)
        task = asyncio.create_task(session.run(picture(5)))
        await server.until(lambda: server.requests.count("POST", "/prompt"))
        shown = repr(task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for secret in SECRETS.values():
        assert secret not in caplog.text + shown
