"""The navigation of the documentation site is whole, and its link checker finds what is broken."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def targets(entry: Any) -> Iterator[str]:
    """The pages of a navigation, however deep."""
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from targets(child)


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    """But those of the examples, which pages link to."""
    navigation = set(targets(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert navigation == {page for page in pages if not page.startswith("examples/")}


def check(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DOCS / "check_links.py"), str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_links_to_pages_places_and_files_are_followed(tmp_path: Path) -> None:
    """Also into a folder with an index, and with a query."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text(
        '<h1 id="top"><a href="../one.html?x=1#here">back</a></h1>'
    )
    (tmp_path / "picture.png").write_bytes(b"")
    links = '<a href="folder/#top"></a><a href="#here"></a><a href="https://host.example/x"></a>'
    (tmp_path / "one.html").write_text(f'<p id="here">{links}<img src="picture.png"></p>')
    checked = check(tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_each_broken_link_is_named(tmp_path: Path) -> None:
    """A page, a place and a picture that are not there; an empty folder is no site either."""
    assert check(tmp_path).returncode == 1
    (tmp_path / "one.html").write_text('<a href="two.html"></a><a href="#gone"></a><img src="no.png">')
    checked = check(tmp_path)
    assert checked.returncode == 1
    assert checked.stderr.splitlines()[:3] == ["one.html: #gone", "one.html: no.png", "one.html: two.html"]
