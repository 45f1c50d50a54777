"""A function for each node class: its parameters and what it returns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from async_comfy.workflow.authoring.kinds import Kind, kind_of, output_kind
from async_comfy.workflow.authoring.names import BUILTINS, Names, identifier, snake
from async_comfy.workflow.declarations import (
    AUTOGROW,
    InputDeclaration,
    inputs_of,
    kind_grown,
    least_grown,
    names_grown,
    options_of,
)

OWN = frozenset({"_id", "_title", "_more", "_node"})
"""Parameters of every function, and its one variable."""

RUNTIME = frozenset(
    {
        "Any", "DEFAULT", "Generic", "Json", "Literal", "Mapping", "NamedTuple", "NewNode", "OMITTED",
        "Sequence", "Socket", "TypeAlias", "TypeVar", "Union", "Upload", "annotations", "cast", "grown",
        "untyped",
    }
)  # fmt: skip
"""What a module of stubs imports."""

LONG_DEFAULT = 40  # characters; a longer one makes no line that anybody reads


class Stands(Enum):
    """What a parameter has in place of a default value."""

    NOTHING = "it must be given"
    OMITTED = "OMITTED"
    DEFAULT = "DEFAULT"


@dataclass(slots=True)
class Parameter:
    """One parameter: `name` on the server, `python` here.

    `default`: a value, or what stands for one. `grown`: the names of its items, where it takes many.
    """

    name: str
    python: str
    kind: Kind
    default: Any
    declared: InputDeclaration
    grown: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One output: its name on the server, its name here, and its type."""

    name: str
    python: str
    kind: Kind


@dataclass(slots=True)
class Signature:
    """A node class as a function. `defaults` and `options` are those of `NewNode`."""

    class_type: str
    python: str
    raw: Mapping[str, Any]
    parameters: list[Parameter]
    outputs: list[Output]
    defaults: dict[str, Any] = field(default_factory=dict)
    options: dict[str, dict[Any, dict[str, Any]]] = field(default_factory=dict)

    @property
    def templates(self) -> dict[str, Kind]:
        """The types that depend on what is given, each with what is allowed."""
        kinds = [parameter.kind for parameter in self.parameters]
        return {kind.template: kind for kind in kinds if kind.template is not None}


class Signatures(Mapping[str, Signature]):
    """Functions by node class, and `types`: the Python name of each type of a socket.

    Names depend on all that is there, for no two may be the same: give the same `object_info` again to get
    the same names.
    """

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        classes = [name for name, raw in object_info.items() if isinstance(raw, Mapping)]
        self.names = Names(RUNTIME | BUILTINS | OWN)
        self.types = {kind: self.names.give(identifier(kind)) for kind in _types_of(object_info, classes)}
        self._functions = {name: self.names.give(identifier(name)) for name in classes}
        self._taken = frozenset({*RUNTIME, *OWN, *self.types.values()})
        self._object_info = object_info

    def __getitem__(self, class_type: str) -> Signature:
        return _signature(self._object_info, class_type, self._functions[class_type], self._taken)

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def _types_of(object_info: Mapping[str, Any], classes: list[str]) -> list[str]:
    """The types of all sockets, sorted: the same names whatever the order."""
    found: set[str] = set()
    for name in classes:
        for declared in inputs_of(object_info, name).values():
            for kind in _kinds_in(declared):
                found.update(kind.sockets)
        for output in _outputs(object_info[name], frozenset()):
            found.update(output.kind.sockets)
    return sorted(found)


def _kinds_in(declared: InputDeclaration) -> Iterator[Kind]:
    for inner in _opened(declared):
        yield _kind(inner)


def _opened(declared: InputDeclaration) -> Iterator[InputDeclaration]:
    """An input and all that may come with its choices."""
    yield declared
    for _, inputs in options_of(declared):
        for one in inputs:
            yield from _opened(one)


def _kind(declared: InputDeclaration) -> Kind:
    if declared.type != AUTOGROW:
        return kind_of(declared)
    repeated = kind_grown(declared)
    return kind_of(repeated) if repeated is not None else Kind(anything=True)


def _signature(
    object_info: Mapping[str, Any], class_type: str, python: str, taken: frozenset[str]
) -> Signature:
    raw = object_info[class_type]
    names = Names(taken)
    templates = {
        kind.template
        for declared in inputs_of(object_info, class_type).values()
        for kind in _kinds_in(declared)
    }
    made = Signature(class_type, python, raw, [], _outputs(raw, frozenset(filter(None, templates))))
    found: dict[str, Parameter] = {}
    for declared in inputs_of(object_info, class_type).values():
        _add(made, found, names, declared, nested=False)
    made.parameters = list(found.values())
    return made


def _add(
    made: Signature, found: dict[str, Parameter], names: Names, declared: InputDeclaration, *, nested: bool
) -> None:
    """A parameter, and after it those that come with its choices; the same name twice accepts either."""
    grown = names_grown(declared) if declared.type == AUTOGROW else None
    kind = _kind(declared)
    if declared.name in found:
        _merge(found[declared.name], kind, grown)
    else:
        default = Stands.DEFAULT if nested else _default(made, declared, kind)
        python = names.give(identifier(declared.name))
        found[declared.name] = Parameter(declared.name, python, kind, default, declared, grown)
    for key, inputs in options_of(declared):
        _add_option(made, declared.name, key, inputs)
        for inner in inputs:
            _add(made, found, names, inner, nested=True)


def _merge(known: Parameter, kind: Kind, grown: list[str] | None) -> None:
    if (known.grown is None) != (grown is None):
        known.kind, known.grown = Kind(anything=True), None
        return
    known.kind = known.kind | kind
    if grown is not None and known.grown is not None and len(grown) > len(known.grown):
        known.grown = grown


def _add_option(made: Signature, name: str, key: Any, inputs: list[InputDeclaration]) -> None:
    values = {
        one.name: value for one in inputs if one.required and (value := _declared_default(one)) is not None
    }
    if values and isinstance(key, str | int):
        made.options.setdefault(name, {}).setdefault(key, {}).update(values)


def _default(made: Signature, declared: InputDeclaration, kind: Kind) -> Any:
    """What the signature shows. Values that it cannot show go to the table of defaults."""
    if declared.type == AUTOGROW:
        return Stands.NOTHING if declared.required and least_grown(declared) else Stands.OMITTED
    if not declared.required:
        return Stands.OMITTED
    value = _declared_default(declared)
    if value is None:
        return Stands.NOTHING
    if isinstance(value, str | int | float) and kind.holds(value) and len(repr(value)) <= LONG_DEFAULT:
        return value
    made.defaults[declared.name] = value
    return Stands.DEFAULT


def _declared_default(declared: InputDeclaration) -> Any:
    """What the editor shows first: the declared default, else the first choice that is no machine's own."""
    value = declared.options.get("default")
    if value is not None:
        return value
    kind = _kind(declared)
    return kind.choices[0] if kind.choices else None


def _outputs(raw: Mapping[str, Any], templates: frozenset[str]) -> list[Output]:
    """The outputs; one whose type follows an input that is not there may be anything."""
    kinds, called = raw.get("output"), raw.get("output_name")
    names = Names({"count", "index"})  # every tuple has methods of these names
    made = []
    for slot, declared in enumerate(kinds if isinstance(kinds, list | tuple) else ()):
        kind = output_kind(declared, _at(raw.get("output_matchtypes"), slot))
        if kind.template is not None and kind.template not in templates:
            kind = Kind(anything=True)
        name = str(_at(called, slot) or "")
        made.append(Output(name, names.give(snake(name) or f"output_{slot}"), kind))
    return made


def _at(listed: Any, index: int) -> Any:
    return listed[index] if isinstance(listed, list | tuple) and index < len(listed) else None
