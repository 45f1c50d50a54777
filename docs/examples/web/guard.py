"""What every request and every response goes through, whatever the route."""

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES = 32 * 1024  # the longest wish, every character of it escaped, takes 24 of them
HEADERS = {
    # Nothing inline and nothing from elsewhere; previews are data URLs.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Guard:
    """Bounds what comes in and tells browsers to trust nothing but this site's own files."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), _labelled(send))


def _bounded(receive: Receive) -> Receive:
    """Counts bytes instead of believing Content-Length, which may be wrong or missing."""
    got = 0

    async def bounded() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > BODY_BYTES:
            raise HTTPException(413, f"A request may have {BODY_BYTES} bytes at most.")
        return message

    return bounded


def _labelled(send: Send) -> Send:
    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return labelled
