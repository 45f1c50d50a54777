"""A server that keeps user data by user, and who asks."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from async_comfy import CallerError, Denied, Session, UnexpectedAnswer
from tests.live.rest.test_recorded import replaying

pytestmark = pytest.mark.anyio

ANN = "ann_ee7e5214-f7c2-473a-8043-538bb0aa1e19"
STATUSES = {"/v2/userdata": 403, "/settings": 401, "/settings/a": 401}
"""What servers with --multi-user (0.3.40 and 0.33.0) answered to nobody in particular; 500 to the rest."""

Call = Callable[[Session], Awaitable[Any]]
CALLS: list[Call] = [
    lambda s: s.userdata.list(),
    lambda s: s.userdata.tree(),
    lambda s: s.userdata.get("x"),
    lambda s: s.userdata.put("x", b"1"),
    lambda s: s.userdata.move("x", "y"),
    lambda s: s.userdata.delete("x"),
    lambda s: s.settings.all(),
    lambda s: s.settings.get("a"),
    lambda s: s.settings.set("a", 1),
    lambda s: s.settings.update({"a": 1}),
]


@pytest.fixture
async def url(anyio_backend: object) -> AsyncIterator[str]:
    """A server that knows one user, and has trouble of its own with /settings."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/users":
            return web.json_response({"storage": "server", "users": {ANN: "ann"}})
        if request.headers.get("comfy-user") == ANN:
            return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")
        return web.Response(status=STATUSES.get(request.path, 500), text="500: in trouble")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("headers", [{}, {"Comfy-User": "bob"}])
async def test_whom_the_server_does_not_know_is_told_what_to_pass(
    url: str, call: Call, headers: dict[str, str]
) -> None:
    """Not that it stumbled, and nothing of passwords."""
    session = Session(url, headers=headers)
    async with session._http:
        with pytest.raises(Denied, match="by user, and does not know you") as refused:
            await call(session)
    assert "comfy-user" in refused.value.hint


async def test_a_known_user_s_trouble_is_the_server_s(url: str) -> None:
    session = Session(url, headers={"Comfy-User": ANN})
    async with session._http:
        assert await session.users.list() == {ANN: "ann"}
        with pytest.raises(UnexpectedAnswer, match="500 Internal Server Error Server got itself"):
            await session.settings.all()


@pytest.mark.parametrize("body", ["null", '{"storage": "server", "migrated": true}', "[]", "trouble"])
async def test_a_server_with_one_user_refuses_for_other_reasons(body: str) -> None:
    async with replaying({"status": 403, "type": "application/x-json", "body": body}) as session:
        with pytest.raises(Denied, match="refused access"):
            await session.settings.all()


async def test_a_user_without_a_name_is_not_sent() -> None:
    """0.3.40 stumbles over it."""
    async with replaying({"status": 500, "type": "text/plain", "body": ""}) as session:
        with pytest.raises(CallerError, match="needs a name"):
            await session.users.add("")
        assert session._http.requests == 0


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize(
    "call",
    [lambda s: s.userdata.get("f"), lambda s: s.userdata.put("f", b""), lambda s: s.userdata.delete("f")],
)
async def test_a_folder_where_a_file_is_wanted_is_said_to_be_one(call: Call, status: int) -> None:
    """0.33.0 answers 403, 400 and 500, 0.3.40 403, 500 and 500; it is looked whether it is a folder."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response([]) if request.path == "/v2/userdata" else web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    async with TestServer(app) as server:
        session = Session(str(server.make_url("/")))
        async with session._http:
            with pytest.raises(CallerError, match="'f' is a folder"):
                await call(session)
