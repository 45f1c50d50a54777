"""`run --each`: rows of parameters in a file, read one at a time however many there are."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from async_comfy import CallerError, File, Workflow, WorkflowError
from async_comfy.workflow import ObjectInfo, Parameter, Parameters, parse_value

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LINES = {".jsonl", ".ndjson"}
LARGEST = 1 << 24  # characters of a cell or of a line: longer ones are no parameters

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Row(NamedTuple):
    """Row number `number`, from 1, the header not counted: what it says, by column."""

    number: int
    cells: Mapping[str, Any]


class Sheet:
    """A file of rows: CSV or TSV with a header, or one JSON object a line.

    An empty cell of a CSV says nothing, so the workflow's own value stays. Raises: CallerError for another
    kind of file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_table = path.suffix.lower() in SEPARATORS
        if not self.is_table and path.suffix.lower() not in LINES:
            raise CallerError(
                f"{path}: --each takes a .csv, .tsv or .jsonl file.",
                hint="A header with the names that `async-comfy params` shows, then one run a line.",
            )

    def __iter__(self) -> Iterator[Row]:
        """The rows, read as they are asked for. Raises: CallerError, saying which row and why."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="" if self.is_table else None) as file:
                rows = self._table(file) if self.is_table else self._objects(file)
                for number, cells in enumerate(rows, 1):
                    yield Row(number, cells)
        except UnicodeDecodeError:
            raise CallerError(f"{self.path}: not UTF-8 text.", hint="Save it as UTF-8.") from None
        except OSError as error:
            raise CallerError(f"{self.path}: {_reason(error)}.", hint="Check the path.") from None

    def wrong(self, number: int, what: str, hint: str = "") -> CallerError:
        """The error for one row."""
        return CallerError(f"{self.path}, row {number}: {what}", hint=hint)

    def _table(self, file: Iterator[str]) -> Iterator[Mapping[str, Any]]:
        csv.field_size_limit(LARGEST)
        lines = csv.reader(file, delimiter=SEPARATORS[self.path.suffix.lower()], strict=True)
        number = 0
        try:
            header = self._header(next(lines, []))
            for cells in filter(None, lines):
                number += 1
                if len(cells) != len(header):
                    raise self.wrong(
                        number,
                        f"it has {len(cells)} cells where the header has {len(header)}.",
                        "A text with a comma in it goes into double quotes.",
                    )
                yield {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        except csv.Error as error:
            raise self.wrong(number + 1, f"{error}.", "A double quote in a cell is written twice.") from None

    def _header(self, cells: list[str]) -> list[str]:
        header = [cell.strip() for cell in cells]
        if len(header) == 1 and (mark := next((mark for mark in ";\t" if mark in header[0]), None)):
            found = "semicolons" if mark == ";" else "tabs"
            hint = "Save it with commas" + (", or call it .tsv." if mark == "\t" else ".")
            raise CallerError(f"{self.path} has {found} between its columns.", hint=hint)
        if not header or not all(header) or len({*header}) < len(header):
            what = "has no header" if not header else "has a column that is unnamed, or named twice"
            raise CallerError(f"{self.path} {what}.", hint="`async-comfy params` shows the names.")
        return header

    def _objects(self, file: Iterator[str]) -> Iterator[Mapping[str, Any]]:
        number = 0
        for line in file:
            if not line.strip():
                continue
            number += 1
            try:
                found = json.loads(line) if len(line) <= LARGEST else None
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise self.wrong(number, "it is no JSON object.", 'Write {"steps": 20} on one line.')
            yield found


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)


class Columns:
    """What the columns of a sheet are in one workflow, by what the servers take.

    `known`: what each server declares; a value is good that one of them takes.
    """

    def __init__(self, sheet: Sheet, workflow: Workflow, known: Sequence[ObjectInfo]) -> None:
        self.sheet = sheet
        self._workflow = workflow
        self._parameters = [workflow.parameters(one) for one in known] or [workflow.parameters()]
        self._found: dict[str, tuple[str, list[Parameter]]] = {}

    def settled(self, row: Row) -> dict[str, Any]:
        """What the row sets, by path. Raises: CallerError, saying which row, and what is allowed."""
        try:
            found = [self._one(name, value) for name, value in row.cells.items()]
        except WorkflowError as error:
            raise self.sheet.wrong(row.number, error.message, error.hint) from None
        settled = dict(found)
        if len(settled) < len(found):
            twice = next(path for path in settled if [one for one, _ in found].count(path) > 1)
            raise self.sheet.wrong(row.number, f"two of its columns are {twice}.", "Leave one of them out.")
        return settled

    def _one(self, name: str, value: Any) -> tuple[str, Any]:
        if name not in self._found:
            self._found[name] = self._look_up(name)
        path, parameters = self._found[name]
        if not parameters:
            return path, parse_value(value, like=self._workflow.get(path)) if self.sheet.is_table else value
        refused: WorkflowError | None = None
        for parameter in parameters:
            try:
                return path, parameter.accept(self._read(parameter, value))
            except WorkflowError as error:
                refused = refused or error
        assert refused is not None  # noqa: S101 - no parameter took it
        raise refused

    def _look_up(self, name: str) -> tuple[str, list[Parameter]]:
        """The path of a column, and its parameter at each server: none for a path that is no parameter."""
        found = [_named(parameters, name) for parameters in self._parameters]
        there = [parameter for parameter in found if parameter is not None]
        if there:
            return there[0].path, there
        if "." in name:
            self._workflow.copy().set(name, self._workflow.get(name))  # raises where there is no such input
            return name, []
        self._parameters[0].named(name)
        raise AssertionError(name)

    def _read(self, parameter: Parameter, value: Any) -> Any:
        """What a cell means: a table holds texts alone. A file that is here is taken from here."""
        if parameter.type == "file" and isinstance(value, str):
            here = self.sheet.path.parent / value
            return File(here) if value and here.is_file() else value
        if not self.sheet.is_table:
            return value
        text = value.strip()
        if parameter.type == "boolean":
            return _BOOLEANS.get(text.lower(), value)
        if parameter.type in {"integer", "number"} and _NUMBER.fullmatch(text):
            with suppress(ValueError):  # Python reads no number of more than 4300 digits
                return int(text) if text.lstrip("+-").isdecimal() else float(text)
        return value


def _named(parameters: Parameters, name: str) -> Parameter | None:
    return next((one for one in parameters if name in (one.name, one.path)), None)
