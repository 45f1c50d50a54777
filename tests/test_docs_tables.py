"""The tables and the reference in the docs are what the code says."""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import async_comfy
import async_comfy.testing
from async_comfy import ComfyError, errors, events
from async_comfy.events import EVENTS
from tests.cli.stage import LEAVES, examples

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def generate() -> ModuleType:
    """docs/generate.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["events.md", "errors.md", "cli.md"])
def test_the_tables_are_up_to_date(generate: ModuleType, name: str) -> None:
    """`python docs/generate.py` would change nothing."""
    page = (DOCS / name).read_text()
    assert "generated -->" in page
    assert generate.filled(page) == page


def test_every_event_has_a_row(generate: ModuleType) -> None:
    """By its name on the wire and by its class."""
    table = "\n".join(generate.event_table())
    for name, kind in EVENTS.items():
        assert f"#async_comfy.events.{kind.__name__})<br>`{name}` |" in table


def test_every_public_error_has_a_row(generate: ModuleType) -> None:
    """But the three families and their root, which head the page."""
    families = {ComfyError, errors.CallerError, errors.ServerError, errors.NetworkError}
    table = "\n".join(generate.error_table())
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, ComfyError) and name[0] != "_" and kind not in families:
            assert f"| [{name}](" in table


def test_every_command_has_its_help_and_its_examples(generate: ModuleType) -> None:
    """Under its own heading, as the shell shows them."""
    page = (DOCS / "cli.md").read_text()
    for name, command in LEAVES.items():
        assert f"[`{name}`](#{name.replace(' ', '-')})" in page
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert f"Usage: async-comfy {name} " in section
        assert examples(command)
        for line in examples(command):
            assert line in section


def test_a_table_out_of_date_is_told_by_page(tmp_path: Path) -> None:
    """`--check` fails and names the page; without it the page is mended."""
    for name in ("generate.py", "events.md"):
        shutil.copy(DOCS / name, tmp_path)
    page = tmp_path / "events.md"
    page.write_text(page.read_text().replace("`gap` |", "`hole` |"))
    command = [sys.executable, str(tmp_path / "generate.py")]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert "events.md is out of date" in checked.stderr
    subprocess.run(command, check=True)
    assert page.read_text() == (DOCS / "events.md").read_text()


@pytest.mark.parametrize("module", [async_comfy, async_comfy.testing])
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    """By itself, or with the whole module that it lives in: where not, add a `:::` line to a page."""
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    whole = {"async_comfy.events": set(vars(events)), "async_comfy.errors": set(vars(errors))}
    by_module = {name for home, names in whole.items() if home in shown for name in names}
    missing = [n for n in module.__all__ if f"{module.__name__}.{n}" not in shown and n not in by_module]
    assert missing == []
