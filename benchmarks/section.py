"""A part of a page that a program writes: between two comments that name it."""

from pathlib import Path


def replace_section(page: Path, name: str, text: str) -> None:
    """Puts `text` between ``<!-- name -->`` and ``<!-- /name -->``. Raises: ValueError where they are not."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    whole = page.read_text()
    if begin not in whole or end not in whole:
        raise ValueError(f"{page} has no section {name!r}")
    head, rest = whole.split(begin, 1)
    page.write_text(f"{head}{begin}{text}{end}{rest.split(end, 1)[1]}")
