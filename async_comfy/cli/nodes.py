"""`async-comfy nodes`: what a server's node classes are, and a typed Python module of them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy import CallerError
from async_comfy.cli.node_list import every_node, object_info_option
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean, short

if TYPE_CHECKING:
    from async_comfy.workflow.declarations import InputDeclaration

SHOWN = 12  # choices of an input; folders of models hold hundreds

EPILOG = """\b
Examples:
  async-comfy nodes upscale
  async-comfy nodes KSampler --object-info object_info.json
  async-comfy nodes --stubs stubs

With --json each line is an object: class_type, title, category, description, inputs (name, type, required,
default, min, max, step, choices, tooltip), outputs (name, type), and deprecated, experimental, partner and
output_node.
"""


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, metavar="[TEXT]")
@click.option(
    "--stubs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write DIR/comfy_nodes.py: a typed function for each class, to write workflows in Python.",
)
@object_info_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each class.")
@server_options
def nodes(
    server: Server, words: tuple[str, ...], stubs: Path | None, object_info: Path | None, as_json: bool
) -> None:
    """List the node classes of a server.

    TEXT finds those that have all its words in their class, title, category, description or other names. The
    class of that very name, or the only one found, is shown with its inputs, ranges and choices.
    """
    if stubs is not None and (words or as_json):
        raise click.UsageError("--stubs writes every class: leave TEXT and --json out.")
    known = every_node(server, object_info)
    if not known:
        raise CallerError(
            "There are no node classes in it.", hint="Give the whole answer of GET /object_info."
        )
    if stubs is not None:
        from async_comfy.workflow.authoring.stubs import write

        click.echo(clean(str(write(known, stubs))))
        return
    for line in _lines(known, _found(known, " ".join(words)), as_json=as_json):
        click.echo(clean(line))


def _found(known: Mapping[str, Any], text: str) -> list[str]:
    """The classes that `text` means, sorted. Raises: CallerError where there are none."""
    if text in known:
        return [text]
    words = text.lower().split()
    found = sorted(name for name, raw in known.items() if all(word in _words(name, raw) for word in words))
    if not found:
        from async_comfy.workflow.spelling import nearest

        near = nearest(text, known, most=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "Try another word, or none for all."
        raise CallerError(f"No node class has {text!r} in it.", hint=hint)
    return found


def _words(class_type: str, raw: Mapping[str, Any]) -> str:
    said = (raw.get(key) for key in ("display_name", "category", "description", "search_aliases"))
    return " ".join([class_type, *map(str, said)]).lower()


def _lines(known: Mapping[str, Any], found: list[str], *, as_json: bool) -> Iterator[str]:
    if as_json:
        for name in found:
            yield json.dumps(_as_dict(known, name), default=repr)
    elif len(found) == 1:
        yield from _shown(_as_dict(known, found[0]))
    else:
        widest = max(map(len, found))
        for name in found:
            raw = known[name]
            yield f"{name.ljust(widest)}  {raw.get('display_name') or name}  ({raw.get('category') or '?'})"


def _as_dict(known: Mapping[str, Any], name: str) -> dict[str, Any]:
    from async_comfy.workflow.declarations import inputs_of, outputs_of

    raw = known[name]
    named = raw.get("output_name")
    called = named if isinstance(named, list) else []
    outputs = outputs_of(known, name)
    return {
        "class_type": name,
        "title": raw.get("display_name") or name,
        "category": raw.get("category"),
        "description": raw.get("description") or "",
        "inputs": [_input(one) for one in _opened(inputs_of(known, name).values()).values()],
        "outputs": [
            {"name": called[slot] if slot < len(called) else kind, "type": kind}
            for slot, kind in enumerate(outputs)
        ],
        "deprecated": raw.get("deprecated") is True,
        "experimental": raw.get("experimental") is True,
        "partner": raw.get("api_node") is True,
        "output_node": raw.get("output_node") is True,
    }


def _opened(inputs: "Iterable[InputDeclaration]") -> "dict[str, InputDeclaration]":
    """The inputs by name, each followed by those that come with one of its choices."""
    from async_comfy.workflow.declarations import options_of

    found: dict[str, InputDeclaration] = {}
    for one in inputs:
        inner = [more for _, option in options_of(one) for more in _opened(option).values()]
        for each in (one, *inner):
            found.setdefault(each.name, each)
    return found


def _input(declared: "InputDeclaration") -> dict[str, Any]:
    limits = {name: declared.options.get(name) for name in ("default", "min", "max", "step", "tooltip")}
    choices = list(declared.choices) if declared.choices is not None else None
    head = {"name": declared.name, "type": declared.type, "required": declared.required}
    return {**head, **limits, "choices": choices}


def _shown(node: Mapping[str, Any]) -> Iterator[str]:
    """One class, for people."""
    marks = [mark for mark in ("deprecated", "experimental", "partner", "output_node") if node[mark]]
    yield f"{node['class_type']}: {node['title']} ({', '.join([str(node['category']), *marks])})"
    if node["description"]:
        yield " ".join(str(node["description"]).split())
    yield from _table("Inputs", [_input_row(one) for one in node["inputs"]])
    yield from _table("Outputs", [[str(one["name"]), str(one["type"])] for one in node["outputs"]])


def _table(head: str, rows: list[list[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"\n{head}:"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _input_row(one: Mapping[str, Any]) -> list[str]:
    default = "" if one["default"] is None else json.dumps(one["default"], ensure_ascii=False, default=repr)
    what = default or ("required" if one["required"] else "optional")
    return [str(one["name"]), str(one["type"]), short(what, 24), _takes(one)]


def _takes(one: Mapping[str, Any]) -> str:
    """Its choices or its range."""
    choices = one["choices"]
    if choices is not None:
        more = f" and {len(choices) - SHOWN} more" if len(choices) > SHOWN else ""
        return ", ".join(map(str, choices[:SHOWN])) + more if choices else "nothing there to choose"
    limits = [f"{word} {one[key]}" for word, key in (("from", "min"), ("to", "max")) if one[key] is not None]
    return " ".join(limits)
