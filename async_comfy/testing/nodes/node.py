"""A node class: what it declares, and what it does when its turn comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = list[Any]
"""The declaration of one input, as in object_info: ``["INT", {"default": 0}]`` or ``[["a", "b"], {}]``.

Instead of a list of choices there may be ``"@checkpoints"`` (the server's models of that folder) or
``"@input"`` (the files in its input folder).
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One class of nodes.

    `run` gets the `Call` and the inputs by name and returns the outputs: a tuple, `Shown`, `Expanded`, or
    None. A plain function runs in a thread, beside the server's loop; a coroutine function runs on the loop
    and may report steps. `changed(folders, **inputs)` says what else than its inputs makes a cached result
    stale; `valid(catalog, **inputs)` returns True or what is wrong; `lacks(**inputs)` names the lazy inputs
    that it needs. `known`: the only inputs that `run` takes; None for the declared ones, empty for any.
    """

    name: str
    run: Callable[..., Any]
    required: Mapping[str, Spec] = field(default_factory=dict)
    optional: Mapping[str, Spec] = field(default_factory=dict)
    hidden: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    output_is_list: tuple[bool, ...] = ()
    output_node: bool = False
    input_is_list: bool = False
    category: str = "simulated"
    display_name: str | None = None
    description: str = ""
    module: str = "nodes"
    changed: Callable[..., Any] | None = None
    valid: Callable[..., Any] | None = None
    lacks: Callable[..., list[str]] | None = None
    known: frozenset[str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Spec]:
        """All declared inputs, the required ones first."""
        return {**self.required, **self.optional}

    def takes(self, name: str) -> bool:
        """Whether `run` is given an input of that name."""
        known = self.inputs if self.known is None else self.known
        return not known or name in known

    def lists(self, slot: int) -> bool:
        """Whether output `slot` is a list of values that the next node takes one by one."""
        return slot < len(self.output_is_list) and self.output_is_list[slot]

    def info(self) -> dict[str, Any]:
        """The declaration as /object_info gives it, choices not yet filled in."""
        groups = {"required": self.required, "optional": self.optional, "hidden": self.hidden}
        given = {group: dict(specs) for group, specs in groups.items() if specs or group == "required"}
        return {
            "input": given,
            "input_order": {group: list(specs) for group, specs in given.items()},
            "is_input_list": self.input_is_list,
            "output": list(self.outputs),
            "output_is_list": [self.lists(slot) for slot in range(len(self.outputs))],
            "output_name": list(self.output_names or self.outputs),
            "name": self.name,
            "display_name": self.display_name or self.name,
            "description": self.description,
            "python_module": self.module,
            "category": self.category,
            "output_node": self.output_node,
            "has_intermediate_output": False,
            "search_aliases": [],
            **self.more,
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """What an output node returns: `ui` is shown (`executed`, history), `outputs` go on to other nodes."""

    ui: Mapping[str, Any]
    outputs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Expanded:
    """A node that becomes several: `graph` runs in its place, `outputs` may be links into it."""

    graph: Mapping[str, Any]
    outputs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """An output value that keeps every node behind it from running; with a `message` they say so."""

    message: str | None = None


class OutOfMemoryError(Exception):
    """Raised by a node that plays a server out of VRAM."""


def INT(default: int = 0, low: int = 0, high: int = 2**64 - 1, **more: Any) -> Spec:  # noqa: N802 - ComfyUI's names
    """A whole number between `low` and `high`."""
    return ["INT", {"default": default, "min": low, "max": high, **more}]


def FLOAT(default: float = 1.0, low: float = 0.0, high: float = 1.0, **more: Any) -> Spec:  # noqa: N802 - as above
    """A number between `low` and `high`."""
    return ["FLOAT", {"default": default, "min": low, "max": high, **more}]


def STRING(default: str = "", **more: Any) -> Spec:  # noqa: N802 - as above
    """A text."""
    return ["STRING", {"default": default, **more}]


def BOOLEAN(default: bool = False) -> Spec:  # noqa: N802 - as above
    """A switch."""
    return ["BOOLEAN", {"default": default}]


def CHOICE(choices: Sequence[str] | str, **more: Any) -> Spec:  # noqa: N802 - as above
    """One of `choices`; or of the server's files, by ``"@checkpoints"``, ``"@input"`` and so on."""
    return [choices if isinstance(choices, str) else list(choices), *([more] if more else [])]
