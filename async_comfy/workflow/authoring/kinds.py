"""What an input accepts, and how Python's annotations say it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from async_comfy.workflow.declarations import DYNAMIC_COMBO, InputDeclaration
from async_comfy.workflow.files import File

MATCHES = "COMFY_MATCHTYPE_V3"  # the type of whatever the other inputs of the same template are given
MOST_CHOICES = 200  # more make no enumeration but a catalogue, which grows
LARGEST = 2**63  # what mypy reads in a `Literal`
_SCALARS = {"INT": "int", "FLOAT": "float", "STRING": "str", "BOOLEAN": "bool"}
_UPLOADS = ("image_upload", "audio_upload", "video_upload", "animated_image_upload", "file_upload")
_WIDGET = ("default", "socketless", "widgetType")  # what only an input with a widget has
_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{1,11}$")  # what one machine has and another has not
_MODEL = re.compile(r"(ckpt|clip|lora|unet|vae)_name\d?$")  # files, though some have other names, too

_HOLDS: Mapping[str, Callable[[Any], bool]] = {
    "int": lambda value: isinstance(value, int),
    "float": lambda value: isinstance(value, int | float),
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "Json": lambda value: not isinstance(value, File),
    "Upload": lambda value: isinstance(value, str | bytes | os.PathLike | File),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What an input accepts, or an output gives.

    `anything` stands alone. `plain`: names of Python types. `choices`: values, if these alone are right.
    `sockets`: types of outputs. `template`: what other inputs and outputs have the same type, of `sockets` if
    there are any.
    """

    plain: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    sockets: tuple[str, ...] = ()
    template: str | None = None
    anything: bool = False

    def __or__(self, other: "Kind") -> "Kind":
        """What either accepts."""
        if self.anything or other.anything or self.template != other.template:
            return Kind(anything=True)
        return Kind(
            _union(self.plain, other.plain),
            _union(self.choices, other.choices),
            _union(self.sockets, other.sockets),
            self.template,
        )

    def holds(self, value: Any) -> bool:
        """Whether a type checker lets this value, no link, go there."""
        chosen = any(type(value) is type(choice) and value == choice for choice in self.choices)
        return self.anything or chosen or any(_HOLDS[name](value) for name in self.plain)

    def takes(self, given: str | None) -> bool:
        """Whether a type checker lets an output of that type go there; None is an output of any type."""
        if self.anything or given is None:
            return True
        return given in self.sockets or (self.template is not None and not self.sockets)


def _union(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple({(type(value), value): value for value in (*ours, *theirs)}.values())


def kind_of(declared: InputDeclaration) -> Kind:
    """What an input accepts that is neither growing nor hidden."""
    if declared.type == MATCHES:
        return _matching(declared.options.get("template"))
    if declared.type in ("COMBO", DYNAMIC_COMBO):
        return _chosen(declared)
    types = tuple(part.strip() for part in declared.type.split(",") if part.strip())
    if "*" in types or not types:
        return Kind(anything=True)
    plain = tuple(_SCALARS[part] for part in types if part in _SCALARS)
    if not plain and any(mark in declared.options for mark in _WIDGET):
        plain = ("Json",)
    return Kind(plain=plain, sockets=types)


def _matching(template: Any) -> Kind:
    if not isinstance(template, Mapping) or not isinstance(template.get("template_id"), str):
        return Kind(anything=True)
    allowed = tuple(part.strip() for part in str(template.get("allowed_types", "*")).split(","))
    return Kind(sockets=() if "*" in allowed else allowed, template=template["template_id"])


def _chosen(declared: InputDeclaration) -> Kind:
    choices = declared.choices or ()
    if any(declared.options.get(upload) for upload in _UPLOADS):
        return Kind(plain=("Upload",), sockets=("COMBO",))
    if declared.options.get("multiselect"):
        return Kind(plain=("Json",), sockets=("COMBO",))
    everywhere = all(map(_is_everywhere, choices)) and not _MODEL.search(declared.name)
    if not choices or len(choices) > MOST_CHOICES or not everywhere:
        return Kind(plain=_plain_types(choices), sockets=("COMBO",))
    return Kind(choices=_union((), choices), sockets=("COMBO",))


def _is_everywhere(choice: Any) -> bool:
    """Whether a choice can be written as a `Literal` that another server would have, too."""
    if isinstance(choice, int):
        return abs(choice) < LARGEST
    return isinstance(choice, str) and not _FILE.search(choice)


def _plain_types(choices: Sequence[Any]) -> tuple[str, ...]:
    names = {type(choice).__name__ for choice in choices} or {"str"}
    return tuple(sorted(names)) if names <= {"str", "int", "float", "bool"} else ("Json",)


def output_kind(declared: Any, template: Any) -> Kind:
    """What an output gives: one type, that of its template, or what cannot be known before."""
    if declared == MATCHES and isinstance(template, str):
        return Kind(template=template)
    if isinstance(declared, list | tuple):
        return Kind(sockets=("COMBO",))
    if not isinstance(declared, str) or declared in ("*", MATCHES, "") or "," in declared:
        return Kind(anything=True)
    return Kind(sockets=(declared,))
