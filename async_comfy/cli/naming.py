"""What saved files are called: a template, filled first by us and then by the library."""

from datetime import date
from string import Formatter
from typing import Any

import click

DEFAULT = "{workflow}/{date}/{index:04}_{seed}"

_OURS: dict[str, Any] = {"workflow": "w", "date": date(2000, 1, 1), "index": 1, "seed": 1}
_OF_FILES = {"filename": "a.png", "stem": "a", "node": "9", "title": "Save Image", "prompt_id": "p"}
_FIELDS = ", ".join(f"{{{name}}}" for name in (*_OURS, *_OF_FILES))


class Naming:
    """A template over the run ({workflow}, {date}, {index}, {seed}) and the file ({filename}, ...).

    Whatever it says, files stay below the output folder: the library sees to that when it saves.

    Raises: click.BadParameter where it cannot be filled.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        if not template.rpartition("/")[2].strip():
            raise click.BadParameter(f"{template!r} names no file. It may use {_FIELDS}.")
        try:
            self.fill(**_OURS).format_map(_OF_FILES)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise click.BadParameter(f"{template!r} does not fit ({error}). It may use {_FIELDS}.") from None

    def fill(self, **values: Any) -> str:
        """The template with the run's values, as `Result.save` takes it: the file's fields left open."""
        return "".join(
            _literal(text) + ("" if field is None else _field(field, spec or "", conversion, values))
            for text, field, spec, conversion in Formatter().parse(self.template)
        )


def _field(name: str, spec: str, conversion: str | None, values: dict[str, Any]) -> str:
    whole = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"
    if name not in values and name not in _OF_FILES:
        raise KeyError(name)
    return _literal(whole.format_map(values)) if name in values else whole


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
