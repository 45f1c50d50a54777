"""A workflow as the Python program that makes it."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import File, Workflow, WorkflowError
from async_comfy.workflow.authoring.stubs import write
from tests.workflow.stubs import importable, ran
from tests.workflow.test_authoring import CLASSES

DATA = Path(__file__).parent / "conversion"


def unpacked(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((DATA / name).read_bytes()))  # type: ignore[no-any-return]  # our own file


OFFICIAL = unpacked("expected.json.gz")
DECLARED = unpacked("object_info.json.gz")


@pytest.fixture(scope="module", autouse=True)
def official_stubs() -> Iterator[None]:
    with importable(DECLARED):
        yield


def essence(prompt: dict[str, Any]) -> dict[str, Any]:
    """Ids, classes, inputs and titles."""
    return {
        key: (node["class_type"], node["inputs"], node.get("_meta", {}).get("title"))
        for key, node in prompt.items()
    }


def of_classes(workflow: Workflow) -> dict[str, Any]:
    """The declarations that a session would fetch."""
    return {name: DECLARED[name] for name in workflow.class_types & DECLARED.keys()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_program_of_an_official_template_makes_the_same_prompt(name: str) -> None:
    """With types, and without."""
    workflow = Workflow.load(OFFICIAL[name])

    typed = ran(workflow.to_python(of_classes(workflow))).to_api()
    assert essence(typed) == essence(OFFICIAL[name])
    assert essence(ran(workflow.to_python()).to_api()) == essence(OFFICIAL[name])


def test_the_programs_of_all_official_templates_pass_mypy_and_a_formatter(tmp_path: Path) -> None:
    """With --strict; and hardly a value had to be hidden from it."""
    write(DECLARED, tmp_path)
    programs = []
    for number, prompt in enumerate(OFFICIAL.values()):
        workflow = Workflow.load(prompt)
        programs.append(workflow.to_python(of_classes(workflow)))
        (tmp_path / f"program_{number}.py").write_text(programs[-1])

    assert sum(program.count("untyped(") for program in programs) <= 1
    for command in (["mypy", "--strict", "."], ["ruff", "format", "--isolated", "--check", "."]):
        ended = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-2000:]


PROMPT: dict[str, Any] = {
    "7": {"class_type": "Save", "inputs": {"images": ["4", 0], "format": "jpg", "format.quality": 1}},
    "4": {
        "class_type": "Decode",
        "inputs": {"samples": ["3", 0], "vae": ["1", 2]},
        "_meta": {"title": "To pixels"},
    },
    "3": {
        "class_type": "Sampler",
        "inputs": {"model": ["1", 0], "latent": ["2", 0], "seed": 3, "sampler": "euler"},
    },
    "2": {"class_type": "Empty", "inputs": {"width": 64}},
    "1": {"class_type": "Loader", "inputs": {"ckpt_name": 'a "b".safetensors'}},
}

PROGRAM = """\
from async_comfy import Workflow
from comfy_nodes import Decode, Empty, Loader, Sampler, Save

loader = Loader(
    ckpt_name='a "b".safetensors',
    _id="1",
)
empty = Empty(
    width=64,
    _id="2",
)
sampler = Sampler(
    model=loader.model,
    latent=empty,
    seed=3,
    sampler="euler",
    _id="3",
)
to_pixels = Decode(
    samples=sampler,
    vae=loader.vae,
    _id="4",
    _title="To pixels",
)
save = Save(
    images=to_pixels,
    format="jpg",
    format__quality=1,
    _id="7",
)
workflow = Workflow.of(
    save,
)
"""


def test_a_program_reads_from_the_first_node_to_the_last() -> None:
    """Named by titles and classes, each input in the order of its function."""
    assert Workflow.load(PROMPT).to_python(CLASSES) == PROGRAM


def program(*nodes: tuple[str, dict[str, Any]]) -> str:
    prompt = {
        str(number): {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in enumerate(nodes)
    }
    with importable(CLASSES):
        source = Workflow.load(prompt).to_python(CLASSES)
        assert essence(ran(source).to_api()) == essence(prompt)
    return source


def test_what_the_file_leaves_out_stays_out() -> None:
    """Where the function would put its default, or want a value."""
    source = program(("Sampler", {"seed": 1}), ("Save", {"format": "png"}))

    assert "sampler=OMITTED" in source
    assert "model=OMITTED" in source
    assert "mask" not in source
    assert "format__depth=OMITTED" in source
    assert "format__quality" not in source


def test_what_does_not_fit_is_marked_for_the_type_checker() -> None:
    source = program(
        ("Empty", {"width": "64"}), ("Save", {"images": ["0", 0]}), ("Sampler", {"sampler": "new"})
    )

    assert 'width=untyped("64")' in source
    assert "images=untyped(empty)" in source
    assert 'sampler=untyped("new")' in source


def test_undeclared_inputs_unknown_classes_and_odd_links_are_kept() -> None:
    source = program(
        ("Empty", {"width": 1, "extra.a": ["9", 0], "b": ["2", 1]}),
        ("Save", {"images": ["0", 5], "format": ["3", 1]}),
        ("Unheard Of", {"class": {"a": [1, None, True]}}),
        ("Loader", {"ckpt_name": ["3x", 0]}),
        ("Batch", {"images.image1": ["1", 0], "images.x": ["3", 7]}),
    )

    assert "_more={" in source
    assert '"b": unheard_of[1]' in source
    assert "empty.node[5]" in source
    assert "loader[0].node[7]" in source


def test_nodes_of_one_name_have_numbers() -> None:
    source = program(("Empty", {}), ("Empty", {}), ("Workflow", {}), ("list", {}))

    assert [line.split(" ")[0] for line in source.splitlines() if " = " in line] == [
        "empty", "empty_2", "workflow_2", "list_2", "workflow",
    ]  # fmt: skip


def test_nodes_in_a_circle_are_refused_by_name() -> None:
    workflow = Workflow.load({
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "B", "inputs": {"x": ["1", 0]}},
    })  # fmt: skip
    with pytest.raises(WorkflowError, match=r"node 1 \(A\): takes from itself"):
        workflow.to_python()


def test_the_editors_format_needs_the_servers_nodes() -> None:
    ui = {"nodes": [{"id": 1, "type": "Empty", "widgets_values": [64]}], "links": []}
    with pytest.raises(WorkflowError, match="editor's own format"):
        Workflow.load(ui).to_python()
    assert "width=64" in Workflow.load(ui).to_python(CLASSES)


@pytest.mark.parametrize("module", ["", "a b", "a;import os", "1a", "a..b", "class"])
def test_a_module_that_cannot_be_imported_is_refused(module: str) -> None:
    with pytest.raises(WorkflowError, match="no module that can be imported"):
        Workflow.load(PROMPT).to_python(CLASSES, module=module)


def test_files_are_written_by_their_paths() -> None:
    workflow = Workflow()
    workflow.add("Load Image 1.5").inputs["class"] = File("fox.png", name="f.png", subfolder="in")
    source = workflow.to_python(CLASSES)

    assert """class_=File(\n        "fox.png",\n        name="f.png",\n""" in source
    with importable(CLASSES):
        (found,) = ran(source).files()
    assert (str(found.file.value), found.file.name, found.file.subfolder) == ("fox.png", "f.png", "in")


def test_files_in_memory_cannot_be_written() -> None:
    workflow = Workflow()
    workflow.add("Load Image 1.5").inputs["class"] = b"\x89PNG"
    with pytest.raises(WorkflowError, match="cannot be written as Python"):
        workflow.to_python(CLASSES)


def test_a_chain_longer_than_the_stack_is_written() -> None:
    workflow = Workflow()
    node = workflow.add("Empty", width=1)
    for _ in range(3000):
        node = workflow.add("Decode", samples=node[0])

    assert workflow.to_python(CLASSES).count("Decode(") == 3000


numbers = st.integers() | st.floats(allow_nan=False)
plain = st.none() | st.booleans() | numbers | st.text(max_size=20)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
)
names = st.sampled_from(
    [name for raw in CLASSES.values() for group in raw["input"].values() for name in group]
    + ["images.image0", "images.image1", "images.z", "format.depth", "format.quality", "self", "_id", "id"]
)


@st.composite
def prompts(draw: st.DrawFn) -> dict[str, Any]:
    """Any classes, known or not, any values, links to earlier nodes and to nowhere."""
    ids = draw(st.lists(st.text(min_size=1, max_size=4), unique=True, min_size=1, max_size=5))
    prompt: dict[str, Any] = {}
    for place, key in enumerate(ids):
        links = st.tuples(st.sampled_from([*ids[:place], "nowhere"]), st.integers(0, 4)).map(list)
        taken = st.dictionaries(names | st.text(max_size=6), links | values, max_size=5)
        kind = draw(st.sampled_from([*CLASSES]) | st.text(min_size=1, max_size=6))
        prompt[key] = {"class_type": kind, "inputs": draw(taken)}
        title = draw(st.none() | st.text(max_size=8))
        if title:
            prompt[key]["_meta"] = {"title": title}
    return prompt


@given(prompts())
def test_the_program_of_any_prompt_makes_it_again(prompt: dict[str, Any]) -> None:
    workflow = Workflow.load(prompt)
    with importable(CLASSES):
        assert essence(ran(workflow.to_python(CLASSES)).to_api()) == essence(workflow.to_api())
    assert essence(ran(workflow.to_python()).to_api()) == essence(workflow.to_api())
