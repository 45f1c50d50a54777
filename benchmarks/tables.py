"""What a case tells: tables of plain values, for the terminal and for docs/benchmarks.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Value = str | float | int | None


@dataclass(frozen=True)
class Bars:
    """A plot of one number for each of several names, in groups. `values`: group to name to number."""

    file: str
    title: str
    unit: str
    values: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Table:
    """A titled table, words below it, and a plot of it where that helps."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    bars: Bars | None = field(default=None)

    def text(self) -> str:
        """For the terminal."""
        lines = [self.header, *([shown(value) for value in row] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        drawn = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in drawn)])

    def markdown(self) -> str:
        """For a page."""
        lines = [
            f"### {self.title}",
            "",
            f"| {' | '.join(self.header)} |",
            f"|---|{'---:|' * (len(self.header) - 1)}",
            *(f"| {' | '.join(shown(value) for value in row)} |" for row in self.rows),
        ]
        if self.note:
            lines += ["", self.note]
        if self.bars:
            lines += ["", f"![{self.bars.title}](benchmarks/{self.bars.file}.svg)"]
        return "\n".join(lines)


def shown(value: Value) -> str:
    """A number as people read it: three digits that matter."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
