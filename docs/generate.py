"""Writes the tables of docs/events.md and docs/errors.md from the classes, docs/cli.md from the commands.

python docs/generate.py           writes them
python docs/generate.py --check   says which page is out of date, and fails
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import msgspec

from async_comfy import errors, events
from async_comfy.cli import exits
from async_comfy.cli.commands import commands

HERE = Path(__file__).parent
HELP_COLUMNS = 100
OF_ALL = {"message", "hint", "prompt_id"}  # of every error
MARKED = re.compile(r"(<!-- (\w+): generated -->\n).*?(<!-- end -->)", re.DOTALL)


def event_table() -> Iterator[str]:
    """Every event: its class, its name on the wire, its promise and its fields."""
    yield from _head("event, and its type", "what it says")
    for name, kind in events.EVENTS.items():
        fields = [field.name for field in msgspec.structs.fields(kind) if field.name != "prompt_id"]
        yield _row(f"{_link('events', kind)}<br>`{name}`", _promise(kind) + _carried(fields))


def outcome_table() -> Iterator[str]:
    """How a job can end, and what awaiting it does then."""
    yield from _head("outcome", "awaiting the job", "what it says")
    for outcome, kind in errors.OUTCOMES.items():
        if kind is None:
            yield _row(outcome, "gives a [Result](reference/results.md)", "It ran, and here is what it made.")
        else:
            yield _row(outcome, f"raises {_link('errors', kind)}", _promise(kind))


def error_table() -> Iterator[str]:
    """Every error, under the one who can mend it; what it carries beside what all do."""
    yield from _head("error", "is a", "what it says")
    for family in (errors.CallerError, errors.ServerError, errors.NetworkError):
        for kind in _kinds(family):
            names = [name for name in inspect.signature(kind).parameters if name not in OF_ALL]
            yield _row(_link("errors", kind), _public_base(kind).__name__, _promise(kind) + _carried(names))


def command_table() -> Iterator[str]:
    """Every command, and what it is for."""
    yield from _head("command", "what it does")
    for name, command in _leaves(commands):
        yield _row(f"[`{name}`](#{name.replace(' ', '-')})", command.get_short_help_str(limit=200))


def exit_table() -> Iterator[str]:
    """The exit codes."""
    yield from _head("exit code", "meaning")
    for number, meaning in exits.MEANINGS.items():
        yield _row(str(number), meaning)


def variable_table() -> Iterator[str]:
    """The environment variables that options take their values from."""
    yield from _head("variable", "in place of")
    found = [option for _, command in _leaves(commands) for option in command.params]
    named = {str(option.envvar): option.opts[0] for option in found if option.envvar}
    yield from (_row(f"`{variable}`", f"`{option}`") for variable, option in named.items())


def command_help() -> Iterator[str]:
    """The help of every command, as the shell shows it."""
    for name, command in _leaves(commands):
        context = click.Context(
            command,
            info_name=f"async-comfy {name}",
            terminal_width=HELP_COLUMNS,
            help_option_names=["-h", "--help"],
        )
        yield from (f"### {name}", "", "```text", command.get_help(context).rstrip(), "```", "")


def _leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """The commands that do something, by the words that call them."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "events": event_table,
    "outcomes": outcome_table,
    "errors": error_table,
    "commands": command_table,
    "exits": exit_table,
    "variables": variable_table,
    "help": command_help,
}


def filled(page: str) -> str:
    """The page with each marked table as the code has it now."""
    return MARKED.sub(lambda mark: mark[1] + "\n".join([*TABLES[mark[2]](), ""]) + mark[3], page)


def _head(*titles: str) -> Iterable[str]:
    return _row(*titles), "|" + "---|" * len(titles)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _link(module: str, kind: type) -> str:
    return f"[{kind.__name__}](reference/{module}.md#async_comfy.{module}.{kind.__name__})"


def _promise(kind: type) -> str:
    """The first paragraph of its docstring, in one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _kinds(family: type[errors.ComfyError]) -> Iterator[type[errors.ComfyError]]:
    """The public errors below `family`, in the order of the module."""
    for kind in vars(errors).values():
        if (
            inspect.isclass(kind)
            and issubclass(kind, family)
            and kind is not family
            and kind.__name__[0] != "_"
        ):
            yield kind


def _public_base(kind: type) -> type:
    return next(base for base in kind.__mro__[1:] if not base.__name__.startswith("_"))


def _carried(names: list[str]) -> str:
    return f"<br>*Fields:* {', '.join(f'`{name}`' for name in names)}" if names else ""


def main() -> int:
    """Writes or checks; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a table is out of date"
    )
    check = parser.parse_args().check
    stale = [page for page in sorted(HERE.glob("*.md")) if filled(page.read_text()) != page.read_text()]
    for page in stale:
        if check:
            print(f"{page.name} is out of date: run python docs/generate.py", file=sys.stderr)
        else:
            page.write_text(filled(page.read_text()))
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
