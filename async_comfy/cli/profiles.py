"""`async-comfy profiles`: servers by name, and how they are reached."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from async_comfy import CallerError
from async_comfy.cli import keyring_entry, profile_file
from async_comfy.cli.exits import DONE, FAILED
from async_comfy.cli.listing import Listing
from async_comfy.cli.terminal import clean

EPILOG = """\b
Examples:
  async-comfy profiles add gpu1 https://gpu1.example.org/comfy/ --bearer-env GPU1_TOKEN
  async-comfy profiles
  async-comfy queue --server gpu1

They are kept in ~/.config/async-comfy/config.toml, which may be edited by hand:

\b
  default = "gpu1"
  [servers.gpu1]
  url = "https://gpu1.example.org/comfy/"
  bearer_env = "GPU1_TOKEN"       # a variable; also api_key_env, partner_key_env, headers_env
  [servers.gpu2]
  url = "https://gpu2.example.org/"
  bearer_keyring = "gpu2.bearer"  # `keyring set async-comfy gpu2.bearer`; also api_key_keyring, ...

What stands there counts more than ASYNC_COMFY_BEARER and its like, and less than an option.
"""

LIST_EPILOG = """\b
Examples:
  async-comfy profiles list
  async-comfy profiles list --json

With --json each line is an object: name, url, default (true or false), credentials (kind: where from).
"""

ADD_EPILOG = """\b
Examples:
  async-comfy profiles add gpu1 https://gpu1.example.org/comfy/ --bearer-env GPU1_TOKEN
  async-comfy profiles add gpu2 https://gpu2.example.org --header-env "X-Pass=GPU2_PASS" --default
  async-comfy profiles add cloud https://cloud.comfy.org --keyring api_key < key.txt
"""

REMOVE_EPILOG = """\b
Example:
  async-comfy profiles remove gpu1 --yes

\b
Exit codes: 0 done, 1 you said no, 2 there is no server of that name.
"""

DEFAULT_EPILOG = """\b
Example:
  async-comfy profiles default gpu1
"""


@click.group(cls=Listing, epilog=EPILOG)
def profiles() -> None:
    """Keep servers by name.

    With their addresses, and where their credentials come from: the environment, or the system's keyring.
    """


@profiles.command("list", epilog=LIST_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each server.")
def list_(as_json: bool) -> None:
    """List the servers that have a name.

    The default one has a star. Secrets are not shown.
    """
    servers, default = profile_file.read()
    for name, said in servers.items():
        profile_file.check(name, said)
    found = [_as_dict(name, said, default) for name, said in servers.items()]
    for line in map(json.dumps, found) if as_json else _lines(found):
        click.echo(clean(line))
    if not found and not as_json:
        hint = "`async-comfy profiles add NAME URL` makes one."
        click.echo(clean(f"No server has a name yet in {profile_file.path()}. {hint}"), err=True)


def _as_dict(name: str, said: Mapping[str, Any], default: str | None) -> dict[str, Any]:
    credentials = dict(profile_file.credentials(said))
    return {
        "name": name,
        "url": _shown(said["url"]),
        "default": name == default,
        "credentials": credentials,
    }


def _shown(url: str) -> str:
    """The address without the password that may be in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    widest = [max((len(one[key]) for one in found), default=0) for key in ("name", "url")]
    for one in found:
        given = ", ".join(f"{kind} from {where}" for kind, where in one["credentials"].items())
        star = "*" if one["default"] else " "
        yield f"{star} {one['name'].ljust(widest[0])}  {one['url'].ljust(widest[1])}  {given}".rstrip()


def _pairs(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if not all(name.strip() and variable.strip() for name, _, variable in pairs):
        raise click.BadParameter("it is written NAME=VARIABLE, such as X-Pass=GPU1_PASS.")
    return {name.strip(): variable.strip() for name, _, variable in pairs}


@profiles.command(epilog=ADD_EPILOG)
@click.argument("name")
@click.argument("url")
@click.option("--bearer-env", metavar="VARIABLE", help="The environment variable that has its bearer token.")
@click.option("--api-key-env", metavar="VARIABLE", help="The one that has its API key.")
@click.option("--partner-key-env", metavar="VARIABLE", help="The one that has the key for partner nodes.")
@click.option(
    "--header-env",
    "headers_env",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VARIABLE",
    help="A header, and the variable that has it; may be repeated.",
)
@click.option(
    "--keyring",
    "kept",
    type=click.Choice(profile_file.SECRETS),
    help="Ask for it (or read a line from stdin), and keep it in the system's keyring.",
)
@click.option("--default", "as_default", is_flag=True, help="Mean this server where none is named.")
@click.option("--replace", is_flag=True, help="In place of the one of that name.")
def add(name: str, url: str, kept: str | None, as_default: bool, replace: bool, **given: Any) -> None:
    """Give a server a NAME.

    Its URL is the address of its editor, with a path prefix if it has one. No connection is made: `doctor
    --server NAME` does.
    """
    from async_comfy.cli import profile_edit
    from async_comfy.cli.server import Server

    if not profile_file.NAME.fullmatch(name):
        raise CallerError(f"{name!r} could be an address.", hint="Choose a name without spaces, / : = and @.")
    Server(url).session()  # which knows what an address is
    said = {"url": url, **{key: value for key, value in given.items() if value}}
    if kept is not None:
        if f"{kept}_env" in said:
            option = f"--{kept.replace('_', '-')}-env"
            raise click.UsageError(f"Give either --keyring {kept} or {option}.")
        said[f"{kept}_keyring"] = f"{name}.{kept}"
    with profile_edit.editing() as file:
        file.put(name, said, replace=replace)
        if as_default:
            file.default(name)
        if kept is not None:
            keyring_entry.write(f"{name}.{kept}", _secret(kept))
    click.echo(clean(f"{name}: {_shown(url)}"))


def _secret(kind: str) -> str:
    """What is typed, unseen, or piped in. Raises: CallerError where that is nothing."""
    said = click.prompt(kind, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    secret = str(said).strip()
    if not secret:
        raise CallerError("There was nothing to keep on stdin.", hint="Type it, or pipe one line in.")
    return secret


@profiles.command(epilog=REMOVE_EPILOG)
@click.argument("name", shell_complete=profile_file.names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(context: click.Context, /, name: str, yes: bool) -> None:
    """Forget a server, and its entries in the keyring that `add` made."""
    from async_comfy.cli import profile_edit
    from async_comfy.cli.asking import agreed

    with profile_edit.editing() as file:
        said = file.take(name)
        if not yes and not agreed(f"Forget {name}, {_shown(str(said.get('url', '')))}?", "--yes forgets"):
            context.exit(FAILED)
        for kind in profile_file.SECRETS:
            if said.get(f"{kind}_keyring") == f"{name}.{kind}":
                keyring_entry.remove(f"{name}.{kind}")
    click.echo(clean(f"{name} forgotten"))
    context.exit(DONE)


@profiles.command(epilog=DEFAULT_EPILOG)
@click.argument("name", shell_complete=profile_file.names)
def default(name: str) -> None:
    """Mean a server where none is named."""
    from async_comfy.cli import profile_edit

    with profile_edit.editing() as file:
        file.default(name)
    click.echo(clean(f"{name} is meant where none is named"))
