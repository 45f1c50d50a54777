"""A small file beside a workflow that renames, fixes, hides and bounds its parameters.

TOML or JSON: one table per parameter, by its name or its path (``NODE.INPUT``)::

    [positive_prompt]
    name = "prompt"
    description = "What the picture shows"

    [steps]
    min = 10
    max = 30

    [negative_prompt]
    hide = true

    [width]
    pin = 1024

    ["3.scheduler"]
    choices = ["normal", "karras"]
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from async_comfy.errors import WorkflowError
from async_comfy.workflow.parameters import Parameter, Parameters
from async_comfy.workflow.spelling import nearest

MAX_BYTES = 1_000_000  # written by hand


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sidecar says of one parameter. `pin`: always this value, and callers cannot set it."""

    name: str | None = None
    label: str | None = None
    description: str | None = None
    default: Any = None
    pin: Any = None
    hide: bool = False
    min: float | None = None
    max: float | None = None
    choices: list[Any] | None = None


Rules = Mapping[str, Rule]
Source = str | os.PathLike[str] | Mapping[str, Any]


def read(source: Source) -> Rules:
    """The rules in a TOML or JSON file, or in a mapping of that form.

    Raises: `WorkflowError` with the place.
    """
    if isinstance(source, Mapping):
        return _rules(source, "sidecar")
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise WorkflowError(f"cannot be read: {error.strerror}.", place=str(path)) from None
    if len(data) > MAX_BYTES:
        raise WorkflowError("too large for a sidecar.", place=str(path))
    return _rules(_parsed(data, path), str(path))


def _parsed(data: bytes, path: Path) -> Any:
    try:
        if path.suffix.lower() == ".json":
            return msgspec.json.decode(data)
        return tomllib.loads(data.decode())
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WorkflowError(f"not {path.suffix.lstrip('.').upper()}: {error}.", place=str(path)) from None


def _rules(found: Any, place: str) -> Rules:
    if not isinstance(found, Mapping):
        raise WorkflowError("a sidecar has one table per parameter.", place=place)
    rules = {}
    for key, rule in found.items():
        try:
            rules[str(key)] = msgspec.convert(rule, Rule)
        except msgspec.ValidationError as error:
            hint = f"It may hold: {', '.join(Rule.__struct_fields__)}."
            raise WorkflowError(f"{error}.", place=f"{place}, {key}", hint=hint) from None
    return rules


def apply(found: Sequence[Parameter], rules: Rules) -> Parameters:
    """The parameters under the rules.

    Raises: `WorkflowError` for a rule about none of them, a value that does not fit, or a name used twice.
    """
    used: set[str] = set()
    kept: list[Parameter] = []
    pinned: dict[str, Any] = {}
    for parameter in found:
        key = parameter.path if parameter.path in rules else parameter.name
        rule = rules.get(key, Rule())
        used.add(key)
        ruled = _ruled(parameter, rule)
        if rule.pin is not None:
            pinned[parameter.path] = ruled.accept(rule.pin)
        elif not rule.hide:
            kept.append(ruled)
    _all_used(rules, used, found)
    _unique(kept)
    return Parameters(kept, pinned)


def _ruled(found: Parameter, rule: Rule) -> Parameter:
    ruled = replace(
        found,
        name=rule.name or found.name,
        label=rule.label or found.label,
        description=rule.description or found.description,
        minimum=_tighter(max, found.minimum, rule.min),
        maximum=_tighter(min, found.maximum, rule.max),
        choices=tuple(rule.choices) if rule.choices is not None else found.choices,
    )
    return ruled if rule.default is None else replace(ruled, default=ruled.accept(rule.default))


def _tighter(choose: Any, ours: float | None, theirs: float | None) -> float | None:
    """A sidecar can narrow what the server takes, never widen it."""
    limits = [limit for limit in (ours, theirs) if limit is not None]
    return choose(limits) if limits else None


def _all_used(rules: Rules, used: set[str], found: Sequence[Parameter]) -> None:
    for key in rules:
        if key not in used:
            near = nearest(key, [parameter.name for parameter in found], 1)
            hint = f"Did you mean {near[0]!r}?" if near else "Use a name, or NODE.INPUT."
            raise WorkflowError(f"there is no parameter {key!r}.", place="sidecar", hint=hint)


def _unique(kept: Sequence[Parameter]) -> None:
    names: set[str] = set()
    for parameter in kept:
        if parameter.name in names:
            raise WorkflowError(f"two parameters would be named {parameter.name!r}.", place="sidecar")
        names.add(parameter.name)
