"""What README and docs show is true: it compiles, its names exist, and its self-contained parts run."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from async_comfy import Session
from async_comfy.testing import SimulatedServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks() -> list[Any]:
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 2}")
        for page in PAGES
        for text in [page.read_text()]
        for match in FENCE.finditer(text)
        for code in [match.group(1)]
    ]


@pytest.mark.parametrize("code", blocks())
def test_a_block_compiles_and_its_imports_are_there(code: str) -> None:
    """Every name that a block imports from us exists."""
    tree = compile(code, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("async_comfy"):
            exec(compile(ast.Module([node], []), "import", "exec"), {})  # noqa: S102  # an import of ours


@pytest.mark.anyio
async def test_the_first_program_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, against a simulated server, with the workflow file that it names."""
    (code, *_) = FENCE.findall((ROOT / "README.md").read_text())
    example = json.loads((ROOT / "docs/examples/sdxl_text_to_image.json").read_text())
    (tmp_path / "workflow_api.json").write_text(json.dumps(example))
    monkeypatch.chdir(tmp_path)
    async with SimulatedServer() as server:
        place: dict[str, Any] = {}
        program = compile(
            code.replace("http://127.0.0.1:8188", server.url),
            "README",
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        await eval(program, place)  # noqa: S307  # our own README
    assert [path.suffix for path in place["paths"]] == [".png"]
    assert all(path.is_file() for path in place["paths"])


@pytest.mark.anyio
async def test_the_examples_run() -> None:
    """The workflow files under docs/examples are valid on a server and make a picture."""
    async with SimulatedServer() as server, Session(server.url) as session:
        for example in sorted((ROOT / "docs/examples").glob("*.json")):
            assert (await session.run(example)).images, example.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
