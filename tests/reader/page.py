"""A page of the docs, and the code blocks on it."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r'^( *)```(\w*)(?: +title="([\w.]+)")?\n(.*?)^\1```[ ]*$', re.DOTALL | re.MULTILINE)
PROMPT = "$ "


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    line: int
    language: str
    file: str
    """The name that the page gives it, if it does: ``title="app.py"``."""
    code: str

    @property
    def place(self) -> str:
        """Where to mend it."""
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """What follows a ``$``, with the lines that a backslash continues; the rest is what a shell says."""
        commands: list[str] = []
        for line in self.code.splitlines():
            if commands and commands[-1].endswith("\\"):
                commands[-1] += f"\n{line}"
            elif line.startswith(PROMPT):
                commands.append(line.removeprefix(PROMPT))
        return commands


def name(page: Path) -> str:
    """As a person says it: docs/web.md."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All of a page, in order."""
    text = page.read_text()
    return [
        Block(
            name(page),
            text[: fence.start()].count("\n") + 2,
            fence[2],
            fence[3] or "",
            textwrap.dedent(fence[4]),
        )
        for fence in FENCE.finditer(text)
    ]
