"""One question to the server and what its answer has to be: said once, for all groups of calls."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from async_comfy._live.http import Answer, Http, unexpected
from async_comfy._live.places import leads_elsewhere
from async_comfy.errors import CallerError, UnexpectedAnswer

Shape = TypeVar("Shape")

OK = frozenset({200})
_SHOWN = 80  # characters of an odd answer worth showing


async def answer_to(
    http: Http,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    body: Any = None,
    statuses: Collection[int] = OK,
) -> Answer:
    """The answer to any method, `body` sent as JSON. Raises: what `Http.get` does, for other `statuses`."""
    sent = None if body is None else msgspec.json.encode(body)
    answer = await http.ask(method, path, params=params, body=sent)
    if answer.status not in statuses:
        raise unexpected(method, path, answer)
    return answer


def as_object(answer: Answer, what: str) -> dict[str, Any]:
    """The answer as a JSON object. Raises: NotComfyUI, UnexpectedAnswer, naming `what` was asked."""
    body = answer.json(what)
    if not isinstance(body, dict):
        raise UnexpectedAnswer(f"{what} gave {str(body)[:_SHOWN]!r}.")
    return body


def shaped(answer: Answer, what: str, shape: type[Shape]) -> Shape:
    """The answer as one of our types; what we do not know of it is left out.

    Raises: NotComfyUI, UnexpectedAnswer
    """
    body = answer.json(what)
    try:
        return msgspec.convert(body, shape, strict=False)
    except msgspec.ValidationError as error:
        raise UnexpectedAnswer(f"{what} gave {error}.", status=answer.status) from None


def segment(name: str) -> str:
    """A name as one segment of a path: what is a slash in it stays the name's.

    Raises: CallerError for a name that would lead elsewhere.
    """
    if not name or leads_elsewhere(name):
        raise CallerError(
            f"{name!r} is no name of a file on the server.", hint="Use a relative one, without `..`."
        )
    return quote(name, safe="")


def prompt_segment(prompt_id: str) -> str:
    """A prompt id as one segment of a path. Raises: CallerError for what is none anywhere."""
    if prompt_id in {"", ".", ".."}:
        raise CallerError(f"{prompt_id!r} is no id of a prompt.", hint="Pass `job.id` or `result.prompt_id`.")
    return quote(prompt_id, safe="")


def under_api(http: Http, path: str) -> str:
    """Where a route that exists below /api alone lies: Comfy Cloud's addresses have the prefix already."""
    return path if http.access.cloud else f"/api{path}"


def query(**values: Any) -> dict[str, str]:
    """The parameters that were given: None is left out, a list becomes text with commas."""
    given = {name: value for name, value in values.items() if value not in (None, (), [], "")}
    return {name: _text(value) for name, value in given.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ",".join(map(str, value))
