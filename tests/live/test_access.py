"""Reaching a server: addresses, credentials, prefixes, and what is no ComfyUI."""

import base64
from typing import Any

import pytest
from aiohttp import web

from async_comfy import CallerError, Closed, Denied, NotComfyUI, Session, Unreachable
from async_comfy._live.access import access
from async_comfy.testing import SimulatedServer
from tests.live.addresses import GPU, black_hole, resolve
from tests.live.pictures import picture

pytestmark = pytest.mark.anyio


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"bearer": "s3cret"}, "Authorization", "Bearer s3cret"),
        ({"basic": ("me", "pw")}, "Authorization", f"Basic {base64.b64encode(b'me:pw').decode()}"),
        ({"api_key": "k3y"}, "X-API-Key", "k3y"),
        ({"headers": {"X-Team": "blue"}}, "X-Team", "blue"),
        ({"cookies": {"session": "c00kie"}}, "Cookie", "session=c00kie"),
    ],
)
async def test_credentials_go_with_every_request_and_with_the_socket(
    options: dict[str, Any], header: str, value: str
) -> None:
    """REST and the WebSocket handshake carry the same credentials, and repr shows none of them."""
    handshakes: list[Any] = []
    async with SimulatedServer() as server:
        runner, url = await serve(_front(server, handshakes))
        async with Session(url, **options) as session:
            await session.run(picture(1))
            assert value not in repr(session) + repr(vars(session))
        await runner.cleanup()
        assert server.requests[0].headers[header] == value
    assert handshakes[0][header] == value


def _front(server: SimulatedServer, handshakes: list[Any], prefix: str = "") -> web.Application:
    """A proxy before the server, as people put one there."""
    import aiohttp

    async def pass_on(request: web.Request) -> web.StreamResponse:
        path = request.path_qs.removeprefix(prefix)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"host", "content-length"}}
        async with aiohttp.ClientSession() as client:
            if request.headers.get("Upgrade"):
                handshakes.append(request.headers)
                return await _bridge(request, client, server.url + path)
            async with client.request(
                request.method, server.url + path, data=await request.read(), headers=headers
            ) as answer:
                return web.Response(status=answer.status, body=await answer.read())

    app = web.Application()
    app.router.add_route("*", prefix + "/{rest:.*}", pass_on)
    return app


async def _bridge(request: web.Request, client: Any, url: str) -> web.WebSocketResponse:
    import asyncio

    mine = web.WebSocketResponse()
    await mine.prepare(request)
    async with client.ws_connect(url) as theirs:

        async def down() -> None:
            async for message in theirs:
                if isinstance(message.data, str):
                    await mine.send_str(message.data)
                else:
                    await mine.send_bytes(message.data)

        task = asyncio.create_task(down())
        async for message in mine:
            await theirs.send_str(message.data)
        task.cancel()
    return mine


async def test_a_path_prefix_is_part_of_the_address() -> None:
    """`https://host/comfy/` reaches a server behind a proxy, events included."""
    async with SimulatedServer() as server:
        runner, url = await serve(_front(server, [], "/comfy"))
        async with Session(f"{url}/comfy/") as session:
            assert (await session.run(picture(2))).files
        await runner.cleanup()


async def test_a_dead_address_of_a_host_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is often ::1 first, and the server, or the way to it, knows only IPv4."""
    monkeypatch.setattr("async_comfy._live.stream.OPEN_S", 5.0)
    async with SimulatedServer() as server:
        port = int(server.url.rpartition(":")[2])
        with black_hole() as dead:
            resolve(monkeypatch, dead, port)
            async with Session(f"http://{GPU}:{port}") as session:
                assert (await session.run(picture(3))).files


async def test_a_host_of_which_no_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, in the end, by each."""
    resolve(monkeypatch, 9, 10)
    with pytest.raises(Unreachable, match="connection refused"):
        await Session(f"http://{GPU}:9").open()


async def test_credentials_in_the_address_are_used_and_never_shown() -> None:
    """`http://user:password@host` is basic authentication."""
    reached = access("http://me:pa55word@127.0.0.1:8188/")
    assert reached.headers["Authorization"].startswith("Basic ")
    assert "pa55word" not in f"{reached} {reached!r} {Session('http://me:pa55word@127.0.0.1:8188/')!r}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:8188", "http://127.0.0.1:8188/prompt"),
        ("localhost", "http://localhost/prompt"),
        ("https://host/comfy/", "https://host/comfy/prompt"),
        ("https://cloud.comfy.org", "https://cloud.comfy.org/api/prompt"),
        ("http://[::1]:8188", "http://[::1]:8188/prompt"),
    ],
)
async def test_addresses_are_read_as_people_write_them(written: str, meant: str) -> None:
    """Scheme and slash may be missing; Comfy Cloud's routes lie below /api."""
    assert str(access(written).http("/prompt")) == meant


async def test_comfy_cloud_gets_the_key_on_both_ways() -> None:
    """X-API-Key on requests, and `token` on the socket."""
    cloud = access("https://cloud.comfy.org", api_key="k3y")
    assert cloud.headers["X-API-Key"] == "k3y"
    assert cloud.socket("me") == "wss://cloud.comfy.org/ws?clientId=me&token=k3y"
    assert "k3y" not in repr(cloud)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ftp://host",
        "http://",
        "http://host:port",
        "::",
        "not an address",
        "a..b",
        f"http://{'a' * 64}:8188",
    ],
)
async def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    """A sentence that shows how to write one."""
    with pytest.raises(CallerError, match="address"):
        Session(address)


@pytest.mark.parametrize(
    "proxy", ["squid:3128", "http://", "socks5://me:s3cret@host:1080", "http://host:port"]
)
async def test_what_is_no_address_of_a_proxy_is_said_to_be_none(proxy: str) -> None:
    with pytest.raises(CallerError, match="proxy") as refused:
        Session("http://127.0.0.1:8188", proxy=proxy)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "who",
    [
        {"bearer": "s3cret\n"},
        {"api_key": "s3cret\r\nHost: other"},
        {"headers": {"X-Key": "s3cret\0"}},
        {"headers": {"X-Key": "s3cret\u2028"}},
        {"headers": {"X-Key": b"s3cret"}},
        {"headers": {"X Key": "s3cret"}},
        {"headers": {"X-Key\n": "s3cret"}},
        {"headers": {"": "s3cret"}},
        {"cookies": {"sid": "s3cret\n"}},
        {"cookies": {"s id": "s3cret"}},
    ],
)
async def test_credentials_that_no_header_can_hold_are_refused_and_not_shown(who: dict[str, Any]) -> None:
    """A token read from a file ends with a line break: that is no trouble of the network's."""
    with pytest.raises(CallerError, match=r"header|cookie") as refused:
        Session("http://127.0.0.1:8188", **who)
    assert "s3cret" not in str(refused.value)


async def test_a_closed_port_is_unreachable_with_a_hint() -> None:
    """Nothing listens there: the message says what to check."""
    async with SimulatedServer() as server:
        url = server.url
    with pytest.raises(Unreachable, match=r"refused.*running there"):
        await Session(url).open()


async def test_another_http_server_is_told_from_a_comfyui() -> None:
    """A web server without /ws, a login page, and a JSON service each say that they are no ComfyUI."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    everything = web.Application()
    everything.router.add_route("*", "/{path:.*}", page)
    for app in (web.Application(), everything):
        runner, url = await serve(app)
        with pytest.raises(NotComfyUI):
            await Session(url).open()
        await runner.cleanup()


@pytest.mark.parametrize("status", [401, 403])
async def test_missing_credentials_are_denied_at_once(status: int) -> None:
    """401 and 403 are not retried, and say what to pass."""
    async with SimulatedServer() as server:
        server.faults.deny(status)
        with pytest.raises(Denied) as denied:
            await Session(server.url).open()
    assert denied.value.status == status


async def test_a_session_that_is_not_open_says_so() -> None:
    """Before `open` and after `close`: `Closed`, with what to do."""
    async with SimulatedServer() as server:
        session = Session(server.url)
        with pytest.raises(Closed, match="async with"):
            await session.run(picture(3))
        async with session:
            pass
        with pytest.raises(Closed):
            await session.run(picture(3))
