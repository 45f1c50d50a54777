"""What the server keeps for its users: files, settings, and who they are.

A server started with --multi-user wants to know who asks: Session(headers={"comfy-user": user_id}). Where it
does not know, every call but those of `Users` raises Denied.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from async_comfy._live.api.answers import answer_to, as_object, query, segment, shaped
from async_comfy._live.http import Http, unexpected
from async_comfy.errors import CallerError, ComfyError, Denied, NotFound, UnexpectedAnswer

Said = TypeVar("Said")
Asked = ParamSpec("Asked")
Group = TypeVar("Group", "UserData", "Settings")

USER_HEADER = "comfy-user"


def by_user(
    call: Callable[Concatenate[Group, Asked], Coroutine[Any, Any, Said]],
) -> Callable[Concatenate[Group, Asked], Coroutine[Any, Any, Said]]:
    """A call that a server with several users refuses to whom it does not know: 401, 403 or 500."""

    @wraps(call)
    async def told(group: Group, /, *args: Asked.args, **more: Asked.kwargs) -> Said:
        try:
            return await call(group, *args, **more)
        except (Denied, UnexpectedAnswer) as error:
            raise await _unknown(group._http, error.status) or error from None

    return told


async def _unknown(http: Http, status: int | None) -> Denied | None:
    """The error for a user that the server does not know; None where that is not the trouble."""
    if status not in {401, 403, 500}:
        return None
    try:
        users = (await http.get("/users")).json("GET /users")["users"]
    except (ComfyError, KeyError, TypeError):
        return None  # with a single user there is no list of them
    me = next((value for name, value in http.access.headers.items() if name.lower() == USER_HEADER), None)
    if me in users:
        return None
    return Denied(
        "The server keeps this by user, and does not know you.",
        status=status,
        hint=f'Pass `headers={{"{USER_HEADER}": user_id}}`; `users.list` tells the ids.',
    )


class UserFile(msgspec.Struct, frozen=True):
    """A file that a user keeps. `size` in bytes; times as the server says them, newer ones in ms."""

    path: str
    size: int | None = None
    modified: float | None = None
    created: float | None = None


class UserEntry(msgspec.Struct, frozen=True):
    """A file or a folder ("file", "directory") anywhere in a user's data; `modified` in seconds."""

    name: str
    path: str
    type: str
    size: int | None = None
    modified: float | None = None


class UserData:
    """/userdata: the files that the user interface keeps on the server, workflows first of all."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @by_user
    async def tree(self, path: str = "") -> list[UserEntry]:
        """GET /v2/userdata: files and folders, all that lies below `path`. Raises: NotFound."""
        answer = await self._http.get("/v2/userdata", query(path=path))
        return shaped(answer, "GET /v2/userdata", list[UserEntry])

    @by_user
    async def list(self, folder: str = "workflows", *, recurse: bool = True) -> list[UserFile]:
        """The files in a folder, paths relative to it; none where the folder is not there yet.

        Raises: CallerError for a folder that leads elsewhere
        """
        segment(folder)
        params = query(dir=folder, recurse=recurse, full_info=True)
        try:
            answer = await self._http.get("/userdata", params)
        except NotFound as error:
            if "Directory" in error.body:
                return []
            raise
        return shaped(answer, "GET /userdata", list[UserFile])

    @by_user
    async def get(self, name: str) -> bytes:
        """A file's bytes, `name` like "workflows/portrait.json". Raises: NotFound, CallerError."""
        try:
            return (await self._http.get(f"/userdata/{segment(name)}")).body
        except (Denied, UnexpectedAnswer) as error:
            raise await self._folder(name) or error from None

    @by_user
    async def put(self, name: str, data: bytes, *, overwrite: bool = True) -> UserFile:
        """Keeps a file. Raises: CallerError where it exists and `overwrite` is off, or is a folder."""
        path = f"/userdata/{segment(name)}"
        params = query(overwrite=overwrite, full_info=True)
        answer = await self._http.ask(
            "POST", path, params=params, body=data, headers={"Content-Type": "application/octet-stream"}
        )
        try:
            return self._kept("POST", path, answer, name)
        except (Denied, UnexpectedAnswer) as error:
            raise await self._folder(name) or error from None

    @by_user
    async def move(self, name: str, to: str, *, overwrite: bool = False) -> UserFile:
        """Renames a file. Raises: NotFound; CallerError where `to` exists and `overwrite` is off."""
        path = f"/userdata/{segment(name)}/move/{segment(to)}"
        params = query(overwrite=overwrite, full_info=True)
        return self._kept("POST", path, await self._http.ask("POST", path, params=params), to)

    @by_user
    async def delete(self, name: str) -> bool:
        """Removes a file; False where there was none. Raises: CallerError for a folder."""
        try:
            await answer_to(self._http, "DELETE", f"/userdata/{segment(name)}", statuses={204})
        except NotFound:
            return False
        except (Denied, UnexpectedAnswer) as error:
            raise await self._folder(name) or error from None
        return True

    async def _folder(self, name: str) -> CallerError | None:
        """The error for a folder's name where a file's is wanted: 400, 403 or 500 are what servers say."""
        try:
            await self.tree(name)
        except ComfyError:
            return None
        return CallerError(f"{name!r} is a folder on the server.", hint="Name a file: `tree` lists them.")

    def _kept(self, method: str, path: str, answer: Any, name: str) -> UserFile:
        if answer.status == 409:
            raise CallerError(
                f"The server has a {name!r} already.", hint="Pass overwrite=True to replace it."
            )
        if answer.status != 200:
            raise unexpected(method, path, answer)
        return shaped(answer, f"{method} /userdata", UserFile)


class Settings:
    """/settings: what the user interface remembers, values by id."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @by_user
    async def all(self) -> dict[str, Any]:
        """Every setting that was made."""
        return as_object(await self._http.get("/settings"), "GET /settings")

    @by_user
    async def get(self, name: str) -> Any:
        """One value; None where it was never set."""
        return (await self._http.get(f"/settings/{segment(name)}")).json("GET /settings")

    @by_user
    async def set(self, name: str, value: Any) -> None:
        """Sets one, to any JSON."""
        await self._http.post(f"/settings/{segment(name)}", value)

    @by_user
    async def update(self, values: dict[str, Any]) -> None:
        """Sets several and leaves the others."""
        await self._http.post("/settings", values)


class Users:
    """/users: how user data is kept, and by whom."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> dict[str, str]:
        """Names by user id; empty where the server has but one user, which it does not name."""
        body = as_object(await self._http.get("/users"), "GET /users")
        users = body.get("users")
        return dict(users) if isinstance(users, dict) else {}

    async def add(self, name: str) -> str:
        """Makes a user and says the id. Raises: CallerError where the name is taken or the server refuses."""
        if not name:
            raise CallerError("A user needs a name.")  # 0.3.40 answers with 500
        answer = await self._http.ask("POST", "/users", body=msgspec.json.encode({"username": name}))
        if answer.status == 400:
            raise CallerError(f"The server did not add the user {name!r}: {answer.text}")
        if answer.status != 200:
            raise unexpected("POST", "/users", answer)
        user_id = answer.json("POST /users")
        if not isinstance(user_id, str):
            raise UnexpectedAnswer("POST /users gave no id.")
        return user_id
