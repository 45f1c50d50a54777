"""Every code block in README and docs runs, page by page from top to bottom, against a simulated server.

Python runs, functions that a page leaves to its reader are called, web apps are started and spoken to,
commands are typed, configurations are read by what reads them. What is not run stands with its reason in
`tests/reader/shell.py` (NOT_RUN) and `tests/reader/reader.py` (NOT_READ).
"""

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import comfyui_workflow_templates_json  # type: ignore[import-untyped]  # it has no types
import pytest
import trustme
from PIL import Image

from async_comfy import Session, Workflow
from async_comfy.testing import SimulatedServer
from tests.reader.page import PAGES, ROOT, blocks, name
from tests.reader.reader import EXAMPLE, NOT_READ, READS, Reader

EDITED = "templates/flux_schnell.json"  # as the editor saves it
SECRETS = ("COMFY_TOKEN", "COMFY_PASSWORD", "COMFY_COOKIE", "COMFY_ORG_KEY", "GPU1_TOKEN")
WITH_BLOCKS = [page for page in PAGES if blocks(page)]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages name without making them: workflows, pictures, declarations, certificates."""
    folder = tmp_path_factory.mktemp("things")
    templates = Path(next(iter(comfyui_workflow_templates_json.__path__)))
    shutil.copy(templates / EDITED, folder / "ui.json")
    shutil.copytree(ROOT / "docs/examples", folder / "docs/examples")
    small = Workflow.load(ROOT / EXAMPLE)
    small["EmptyLatentImage"].inputs.update(width=256, height=256)  # a page is read sixteen times as fast
    for called in (EXAMPLE, "workflow.json", "workflow_api.json"):
        (folder / called).write_text(json.dumps(small.to_api()))
    Image.new("RGB", (64, 64), "orange").save(folder / "cat.png")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "company-ca.pem")
    mine = authority.issue_cert("me@comfy.internal")
    mine.private_key_pem.write_to_path(folder / "me.key")
    mine.cert_chain_pems[0].write_to_path(folder / "me.pem")
    asyncio.run(made_by_a_server(folder))
    return folder


async def made_by_a_server(folder: Path) -> None:
    """A picture with its workflow inside, and the declarations of all node classes."""
    async with SimulatedServer() as server, Session(server.url) as session:
        (folder / "object_info.json").write_bytes((await session.nodes.all()).raw)
        (picture,) = await (await session.run(folder / EXAMPLE)).save(folder)
        picture.rename(folder / "picture.png")


def a_picture_was_saved(read: Reader, said: str) -> None:
    """Under out/, whole."""
    (picture, *_) = (read.folder / "out").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def the_batch_is_told(read: Reader, said: str) -> None:
    """Files named by their seeds; times, of nodes and of all; a small picture; how the sweep went."""
    assert {path.name[:2] for path in (read.folder / "out").iterdir()} >= {"0_", "1_", "2_"}
    assert re.search(r"^median [\d.]+ s, slowest [\d.]+ s$", said, re.MULTILINE)
    (took,) = read.program.returned["per_node"]
    assert Workflow.load(EXAMPLE)["KSampler"].id in took
    (small,) = read.program.returned["thumbnail"]
    assert small.size == (128, 128)


def both_get_the_same(read: Reader, said: str) -> None:
    """The polling script and ours, byte by byte, from one prompt."""
    polled, ours = read.program.returned["make"]
    assert polled
    assert polled == ours


def a_refusal_is_explained(read: Reader, said: str) -> None:
    """A good workflow gives its result, a bad one None and the name of what is wrong with it."""
    (result,) = read.program.returned["make"]
    assert result.images
    bad = Workflow.load(EXAMPLE)
    bad.set("CheckpointLoaderSimple.ckpt_name", "nowhere.safetensors")
    assert read.program.call("make", workflow=bad) is None


def pictures_are_streamed(read: Reader, said: str) -> None:
    """By each app that curl can speak to."""
    streams = [stream for command, stream in read.shell.heard if command.startswith("curl")]
    assert len(streams) == 2
    assert all("event: progress" in stream and "event: image" in stream for stream in streams)


def a_server_is_measured(read: Reader, said: str) -> None:
    """A line for each concurrency, with all prompts done."""
    ((_, lines),) = read.shell.heard
    _stats, *measured = map(json.loads, lines.splitlines())
    assert [(line["concurrency"], line["done"], line["troubles"]) for line in measured] == [
        (1, 5, {}),
        (8, 5, {}),
    ]
    assert all(line["per_minute"] > 0 and line["ran_s"]["median"] >= 0 for line in measured)


CLAIMS: dict[str, Callable[[Reader, str], None]] = {  # what pages claim beyond that their blocks run
    "README.md": a_picture_was_saved,
    "docs/index.md": a_picture_was_saved,
    "docs/quickstart.md": a_picture_was_saved,
    "docs/web.md": pictures_are_streamed,
    "docs/benchmarking.md": a_server_is_measured,
    "docs/batch.md": the_batch_is_told,
    "docs/migrating.md": both_get_the_same,
    "docs/errors.md": a_refusal_is_explained,
}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_a_reader_can_do_what_the_page_says(
    page: Path,
    things: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All its blocks, in order: each may build on those above it."""
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / page.parent.relative_to(ROOT) if page.parent.name == "web" else tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    for home, place in {"HOME": "", "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config"}.items():
        monkeypatch.setenv(home, str(folder / place))
    for secret in SECRETS:
        monkeypatch.setenv(secret, "user:secret")
    found = blocks(page)
    with Reader(found, folder) as reader:
        for block in found:
            try:
                reader.do(block)
            except BaseException as error:
                error.add_note(f"in the block at {block.place}")
                raise
        reader.closed()
        if name(page) in CLAIMS:
            CLAIMS[name(page)](reader, capsys.readouterr().out)


@pytest.mark.anyio
async def test_the_examples_run() -> None:
    """The workflow files under docs/examples are valid on a server and make a picture."""
    async with SimulatedServer() as server, Session(server.url) as session:
        for example in sorted((ROOT / "docs/examples").glob("*.json")):
            assert (await session.run(example)).images, example.name


def test_every_block_has_a_language_that_somebody_reads() -> None:
    """A new one fails here until it is said how it is run, or why it is not."""
    known = {*READS, *NOT_READ}
    assert [block.place for page in PAGES for block in blocks(page) if block.language not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_is_overlooked(page: Path) -> None:
    """Each fence begins a block or ends one, whatever stands behind it."""
    fences = re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
