"""What a server says of a node class in GET /object_info, as values."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # its choice decides which further inputs there are
AUTOGROW = "COMFY_AUTOGROW_V3"  # as many inputs of one kind as are wanted
_MAX_GROWN = 1000  # a declaration may claim any number


class InputDeclaration(NamedTuple):
    """One input of a class.

    `type`: "INT", "IMAGE", "COMBO", ... `options`: range, default and so on, as the server wrote them.
    `choices`: what a COMBO takes, None for other types. `raw`: the declaration itself.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    required: bool
    choices: tuple[Any, ...] | None
    raw: Any


def inputs_of(object_info: Mapping[str, Any] | None, class_type: str) -> dict[str, InputDeclaration]:
    """The declared inputs of a class, required ones first; empty where the class is not known."""
    declared = (object_info or {}).get(class_type)
    groups = declared.get("input") if isinstance(declared, Mapping) else None
    if not isinstance(groups, Mapping):
        return {}
    return {found.name: found for found in _all_groups(groups, "")}


def _group(groups: Any, group: str) -> Iterator[InputDeclaration]:
    declared = groups.get(group)
    for name, raw in declared.items() if isinstance(declared, Mapping) else ():
        if isinstance(raw, list | tuple) and raw:
            yield _input(str(name), raw, group == "required")


def _input(name: str, raw: list[Any] | tuple[Any, ...], required: bool) -> InputDeclaration:
    options = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
    kind = raw[0]
    if isinstance(kind, list | tuple):  # the older way to declare a COMBO: the choices stand for the type
        return InputDeclaration(name, "COMBO", options, required, tuple(kind), raw)
    return InputDeclaration(name, str(kind), options, required, _choices(kind, options), raw)


def _choices(kind: object, options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    listed = options.get("options")
    if not isinstance(listed, list | tuple):
        return None
    if kind == DYNAMIC_COMBO:
        return tuple(option.get("key") for option in listed if isinstance(option, Mapping))
    return tuple(listed) if kind == "COMBO" else None


def live_inputs_of(
    object_info: Mapping[str, Any] | None, class_type: str, values: Mapping[str, Any]
) -> dict[str, InputDeclaration]:
    """The inputs that a class has when it holds `values`: dynamic ones are opened, ``format.codec``."""
    live: dict[str, InputDeclaration] = {}
    todo = list(inputs_of(object_info, class_type).values())
    while todo:
        found = todo.pop(0)
        if found.type == AUTOGROW:
            todo[:0] = _grown(found)
            continue
        live[found.name] = found
        if found.type == DYNAMIC_COMBO:
            todo[:0] = _chosen(found, values.get(found.name))
    return live


def _grown(found: InputDeclaration) -> list[InputDeclaration]:
    kind = kind_grown(found)
    least = least_grown(found)
    return [
        kind._replace(name=f"{found.name}.{name}", required=found.required and index < least)
        for index, name in enumerate(names_grown(found))
        if kind is not None
    ]


def kind_grown(found: InputDeclaration) -> InputDeclaration | None:
    """What an `AUTOGROW` input repeats."""
    return next(_all_groups(_template(found).get("input"), ""), None)


def least_grown(found: InputDeclaration) -> int:
    """How many of an `AUTOGROW` input there must be."""
    return _count(_template(found).get("min"))


def names_grown(found: InputDeclaration) -> list[str]:
    """What an `AUTOGROW` input's repetitions are called, in their order, without its own name."""
    template = _template(found)
    names = template.get("names")
    if isinstance(names, list):
        return [str(name) for name in names[:_MAX_GROWN]]
    return [f"{template.get('prefix', '')}{i}" for i in range(_count(template.get("max")))]


def _template(found: InputDeclaration) -> Mapping[str, Any]:
    template = found.options.get("template")
    return template if isinstance(template, Mapping) else {}


def _count(value: object) -> int:
    return min(value, _MAX_GROWN) if isinstance(value, int) else 0


def _chosen(found: InputDeclaration, value: object) -> list[InputDeclaration]:
    return next((inputs for key, inputs in options_of(found) if key == value), [])


def options_of(found: InputDeclaration) -> list[tuple[Any, list[InputDeclaration]]]:
    """What a `DYNAMIC_COMBO` input lets choose, each with the inputs that come with it; else nothing."""
    options = found.options.get("options") if found.type == DYNAMIC_COMBO else None
    return [
        (option.get("key"), list(_all_groups(option.get("inputs"), f"{found.name}.")))
        for option in (options if isinstance(options, list) else ())
        if isinstance(option, Mapping)
    ]


def _all_groups(groups: object, prefix: str) -> Iterator[InputDeclaration]:
    for group in ("required", "optional") if isinstance(groups, Mapping) else ():
        for found in _group(groups, group):
            yield found._replace(name=prefix + found.name)


def outputs_of(object_info: Mapping[str, Any] | None, class_type: str) -> tuple[str, ...]:
    """The types of a class's outputs, in order; empty where the class is not known."""
    declared = (object_info or {}).get(class_type)
    outputs = declared.get("output") if isinstance(declared, Mapping) else None
    if not isinstance(outputs, list | tuple):
        return ()
    return tuple(kind if isinstance(kind, str) else "COMBO" for kind in outputs)


def declares(object_info: Mapping[str, Any] | None, class_type: str, name: str) -> bool:
    """Whether the class takes an input of that name, or one that grows such names (``values.a``)."""
    declared = inputs_of(object_info, class_type)
    return name in declared or name.partition(".")[0] in declared


_FITS_ALL = frozenset({"*", "COMFY_MATCHTYPE_V3"})


def fits(given: str, wanted: str) -> bool:
    """Whether an output of the type `given` may go where `wanted` is taken; either may list several types."""
    ours, theirs = _types(given), _types(wanted)
    return bool(ours & theirs or (ours | theirs) & _FITS_ALL)


def _types(listed: str) -> frozenset[str]:
    return frozenset(part.strip() for part in listed.split(","))
