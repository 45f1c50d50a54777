"""Checks the built site: every link inside it leads to a file, and to a place in it.

The builder itself looks at links between pages; here are images, files and the navigation, too.

python docs/check_links.py site
"""

import argparse
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What one page of HTML links to, and the places that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser calls it for each tag."""
        found = dict(attrs)
        self.places |= {name for name in (found.get("id"), found.get("name")) if name}
        self.links += [link for link in (found.get("href"), found.get("src")) if link]


class Site(NamedTuple):
    """A folder of pages."""

    root: Path
    pages: dict[Path, Page]

    @classmethod
    def read(cls, root: Path) -> "Site":
        """All pages but 404.html, whose links are meant from the root of a server."""
        files = (file for file in root.resolve().rglob("*.html") if file.name != "404.html")
        return cls(root.resolve(), {file: Page(file.read_text()) for file in files})

    def broken(self) -> Iterator[str]:
        """One line for each link that leads nowhere."""
        for file, page in sorted(self.pages.items()):
            for link in sorted(set(page.links)):
                if not self._leads(file, link):
                    yield f"{file.relative_to(self.root)}: {link}"

    def _leads(self, file: Path, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return True  # another site's, which is not ours to ask at every build
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if target.is_dir():
            target /= "index.html"
        if not target.is_file():
            return False
        page = self.pages.get(target)
        return not parts.fragment or page is None or unquote(parts.fragment) in page.places


def main() -> int:
    """Says what is broken; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, help="the folder of the built site")
    site = Site.read(parser.parse_args().site)
    broken = list(site.broken())
    links = sum(len(page.links) for page in site.pages.values())
    print(
        "\n".join([*broken, f"{len(site.pages)} pages, {links} links, {len(broken)} broken"]), file=sys.stderr
    )
    return 1 if broken or not site.pages else 0


if __name__ == "__main__":
    raise SystemExit(main())
