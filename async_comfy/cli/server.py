"""Which server a command speaks to, and as whom."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from async_comfy import Unreachable
from async_comfy.cli.profile_file import misspelt, names, profile

if TYPE_CHECKING:
    from async_comfy import Session

GIVE_UP_S = 300.0  # a server with many custom nodes takes minutes to come back after a restart


@dataclass(frozen=True, slots=True)
class Server:
    """An address and credentials; what is secret shows in no repr."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    partner_key: str | None = field(default=None, repr=False)

    def session(self) -> "Session":
        """A session with it, not yet open. Raises: CallerError where that is no address."""
        from async_comfy import Session

        return Session(
            self.url,
            api_key=self.api_key,
            bearer=self.bearer,
            headers=self.headers,
            partner_key=self.partner_key,
            give_up_s=GIVE_UP_S,
        )


def _headers(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition(":") for text in given]
    if not all(name.strip() and colon for name, colon, _ in pairs):
        raise click.BadParameter('a header is written "Name: value".')  # which may be secret: not shown
    return {name.strip(): value.strip() for name, _, value in pairs}


_OPTIONS = (
    click.option(
        "--server",
        "url",
        default="http://127.0.0.1:8188",
        envvar="ASYNC_COMFY_URL",
        show_default=True,
        show_envvar=True,
        shell_complete=names,
        metavar="URL|NAME",
        help="The server's address, with a path prefix if it has one; or its name in "
        "~/.config/async-comfy/config.toml.",
    ),
    click.option(
        "--api-key",
        envvar="ASYNC_COMFY_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="Sent as X-API-Key. The environment hides it from other users of this machine.",
    ),
    click.option(
        "--bearer",
        envvar="ASYNC_COMFY_BEARER",
        show_envvar=True,
        metavar="TOKEN",
        help="Sent as Authorization: Bearer.",
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        callback=_headers,
        metavar="'NAME: VALUE'",
        help="Sent with every request; may be repeated.",
    ),
    click.option(
        "--partner-key",
        envvar="ASYNC_COMFY_PARTNER_KEY",
        show_envvar=True,
        metavar="KEY",
        help="Pays for partner nodes (api_key_comfy_org).",
    ),
)
_FIELDS = ("url", "api_key", "bearer", "headers", "partner_key")


def _chosen(given: dict[str, Any]) -> Server:
    """The server that is meant. What is typed counts most, then its profile, then the environment."""
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in _FIELDS}
    named = sources["url"] is not ParameterSource.DEFAULT
    found = profile(given["url"] if named else None)
    typed = {name for name, source in sources.items() if source is ParameterSource.COMMANDLINE} - {"url"}
    headers = {**found.pop("headers", {}), **given["headers"]}
    kept = {name: value for name, value in found.items() if name not in typed}
    return Server(**{**given, **kept, "headers": headers})


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where the server is; the command gets them as one `server`.

    A command that invokes another one may hand it its own.
    """

    @wraps(command)
    def collected(**given: Any) -> Any:
        said = {name: given.pop(name) for name in _FIELDS}
        server = given.pop("server", None) or _chosen(said)
        try:
            return command(server=server, **given)
        except Unreachable as error:
            if "no such host" in error.message:
                error.hint = misspelt(server.url) or error.hint
            raise

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected
