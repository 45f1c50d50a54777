"""Nodes that are written down, and not yet part of a workflow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.files import File
from async_comfy.workflow.values import Link


class _Left(Enum):
    """What stands for no value."""

    OMITTED = "OMITTED"
    DEFAULT = "DEFAULT"

    def __repr__(self) -> str:
        return self.value


OMITTED: Any = _Left.OMITTED
"""Leaves an input out of the prompt; the server takes its own default, or refuses."""

DEFAULT: Any = _Left.DEFAULT
"""The server's default for this input, where the chosen options have the input at all."""

Json = str | int | float | bool | list[Any] | dict[str, Any] | None
"""What a widget of the editor may hold."""

Upload = str | bytes | os.PathLike[str] | File
"""A name on the server, or a file that a session sends there first."""


class NewNode:
    """One node: its class, its inputs by the server's names, and its id and title if they matter.

    `more`: inputs that the class does not declare. `defaults`: what `DEFAULT` means, by input.
    `options`: the same for inputs that come with a choice, by the input that chooses and its value.
    """

    def __init__(
        self,
        class_type: str,
        inputs: Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002 - what a node calls it; no function here needs the builtin
        title: str | None = None,
        more: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        options: Mapping[str, Mapping[Any, Mapping[str, Any]]] | None = None,
    ) -> None:
        self.class_type = class_type
        self.id = id
        self.title = title
        self.inputs = {**_filled(inputs, defaults or {}, options or {}), **(more or {})}

    def __getitem__(self, slot: int) -> Any:
        """Its output number `slot`, of any type."""
        return Socket(self, slot)

    __iter__ = None  # or unpacking would ask for outputs without end

    def __repr__(self) -> str:
        return f"<NewNode {self.id or ''}({self.class_type})>"


class Socket:
    """One output of a node; put it where another node takes it in. Its class is its type."""

    __slots__ = ("node", "slot")

    def __init__(self, node: NewNode, slot: int) -> None:
        self.node = node
        self.slot = slot

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.slot} of {self.node!r}>"


End = Socket | NewNode | tuple[Socket, ...]
"""What a call for a node returns: one output, several, or the node where it has none."""


def untyped(value: object) -> Any:
    """`value`, whatever a type checker thinks of it."""
    return value


def grown(
    name: str,
    given: Sequence[Any] | Mapping[str, Any],
    *,
    prefix: str = "",
    most: int = 0,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """The inputs that a list, or a part of one by name, stands for: ``images.image0``, ``images.image1``.

    They are called as `names` says, or `prefix` and a number below `most`.

    Raises: `WorkflowError` for more than there can be.
    """
    if isinstance(given, _Left):
        return {}
    if isinstance(given, Mapping):
        return {f"{name}.{key}": value for key, value in given.items()}
    known = names or [f"{prefix}{number}" for number in range(most)]
    if len(given) > len(known):
        raise WorkflowError(f"{name} takes up to {len(known)}, not {len(given)}.")
    return {f"{name}.{key}": value for key, value in zip(known, given, strict=False)}


def _filled(
    inputs: Mapping[str, Any],
    defaults: Mapping[str, Any],
    options: Mapping[str, Mapping[Any, Mapping[str, Any]]],
) -> dict[str, Any]:
    """The inputs that are there, with the defaults of what was chosen. An outer choice stands first."""
    known = dict(defaults)
    found: dict[str, Any] = {}
    for name, value in inputs.items():
        chosen = known.get(name, OMITTED) if value is DEFAULT else value
        if chosen is OMITTED:
            continue
        found[name] = chosen
        if name in options and isinstance(chosen, str | int):
            known.update(options[name].get(chosen, {}))
    return found


def prompt_of(ends: Sequence[End]) -> dict[str, dict[str, Any]]:
    """The prompt of these nodes and of all that they need, each node after those that it takes from.

    Nodes without an id get the free numbers.

    Raises: `WorkflowError` where two nodes have the same id, or something else was given.
    """
    nodes = _all_needed([node for end in ends for node in _nodes_of(end)])
    ids = _numbered(nodes)
    return {ids[node]: _plain(node, ids) for node in nodes}


def _nodes_of(end: End) -> list[NewNode]:
    if isinstance(end, NewNode):
        return [end]
    sockets = end if isinstance(end, tuple) else (end,)
    if not all(isinstance(socket, Socket) for socket in sockets):
        raise WorkflowError(
            f"a {type(end).__name__} is no node.", hint="Give what the functions of the nodes returned."
        )
    return [socket.node for socket in sockets]


def _all_needed(last: Sequence[NewNode]) -> list[NewNode]:
    """In order, without recursion: a chain of nodes may be longer than the interpreter's stack."""
    done: dict[NewNode, None] = {}
    for end in last:
        road: list[tuple[NewNode, Iterator[NewNode]]] = [(end, _sources(end))]
        while road:
            node, sources = road[-1]
            waiting = next((source for source in sources if source not in done), None)
            if waiting is not None:
                road.append((waiting, _sources(waiting)))
            else:
                done[node] = None
                road.pop()
    return list(done)


def _sources(node: NewNode) -> Iterator[NewNode]:
    return (value.node for value in node.inputs.values() if isinstance(value, Socket))


def _numbered(nodes: Sequence[NewNode]) -> dict[NewNode, str]:
    named = {node.id: node for node in nodes if node.id is not None}
    for node in nodes:
        if node.id is not None and named[node.id] is not node:
            raise WorkflowError(f"two nodes have the id {node.id!r}.", hint="Change one, or leave ids out.")
    numbers = (text for number in range(1, 2 * len(nodes) + 1) if (text := str(number)) not in named)
    return {node: node.id if node.id is not None else next(numbers) for node in nodes}


def _plain(node: NewNode, ids: Mapping[NewNode, str]) -> dict[str, Any]:
    inputs = {
        name: Link(ids[value.node], value.slot) if isinstance(value, Socket) else value
        for name, value in node.inputs.items()
    }
    meta = {"_meta": {"title": node.title}} if node.title is not None else {}
    return {"class_type": node.class_type, "inputs": inputs, **meta}
