"""`nodes`: what a server's node classes are, and a typed module of them."""

import json
from pathlib import Path

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.workflow.stubs import importable, ran

NOWHERE = "http://127.0.0.1:1"

CLASSES = {
    "Blur": {
        "input": {"required": {"image": ["IMAGE"], "radius": ["INT", {"default": 1, "min": 1, "max": 31}]}},
        "output": ["IMAGE"],
        "output_name": ["blurred"],
        "display_name": "Soften",
        "category": "image/filters",
        "description": "Makes \x1b[31m soft.",
        "api_node": True,
    },
    "Save": {
        "input": {
            "required": {
                "format": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {"options": [{"key": "jpg", "inputs": {"required": {"quality": ["INT", {"max": 100}]}}}]},
                ],
                "model": [[f"{number}.pt" for number in range(40)]],
                "none": [[]],
            }
        },
        "output": [],
        "category": "image",
        "output_node": True,
    },
}


@pytest.fixture
def file(tmp_path: Path) -> tuple[str, str, str, str]:
    """The options that name a file instead of a server."""
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return ("--object-info", "classes.json", "--server", NOWHERE)


def test_without_a_text_every_class_is_one_line(shell: Shell, file: tuple[str, ...]) -> None:
    """With title and category, sorted."""
    assert shell.type("nodes", *file).out == "Blur  Soften  (image/filters)\nSave  Save  (image)\n"


@pytest.mark.parametrize("words", [["BLUR"], ["soften"], ["filters", "soft"], ["Blur"]])
def test_the_only_one_found_is_shown_whole(words: list[str], shell: Shell, file: tuple[str, ...]) -> None:
    """By class, title, category or description; what steers a terminal is taken out."""
    shown = shell.type("nodes", *words, *file)

    assert shown.code == 0
    assert [line.split() for line in shown.out.splitlines()] == [
        ["Blur:", "Soften", "(image/filters,", "partner)"],
        ["Makes", "\N{REPLACEMENT CHARACTER}[31m", "soft."],
        [],
        ["Inputs:"],
        ["image", "IMAGE", "required"],
        ["radius", "INT", "1", "from", "1", "to", "31"],
        [],
        ["Outputs:"],
        ["blurred", "IMAGE"],
    ]


def test_choices_are_shown_as_far_as_anybody_reads(shell: Shell, file: tuple[str, ...]) -> None:
    """And the inputs that come with a choice, after it."""
    rows = {line.split()[0]: line for line in shell.type("nodes", "Save", *file).out.splitlines() if line}

    assert list(rows)[2:] == ["format", "format.quality", "model", "none"]
    assert rows["model"].endswith("11.pt and 28 more")
    assert "jpg" in rows["format"]
    assert "nothing there to choose" in rows["none"]


def test_json_has_an_object_for_each_class(shell: Shell, file: tuple[str, ...]) -> None:
    blur, save = shell.type("nodes", "--json", *file).json

    assert (blur["class_type"], blur["title"], blur["partner"]) == ("Blur", "Soften", True)
    assert blur["inputs"][1] == {
        "name": "radius", "type": "INT", "required": True, "default": 1, "min": 1, "max": 31, "step": None,
        "tooltip": None, "choices": None,
    }  # fmt: skip
    assert blur["outputs"] == [{"name": "blurred", "type": "IMAGE"}]
    assert len(next(one for one in save["inputs"] if one["name"] == "model")["choices"]) == 40


def test_nothing_found_names_what_is_near(shell: Shell, file: tuple[str, ...]) -> None:
    ended = shell.type("nodes", "Blurr", *file)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: No node class has 'Blurr' in it.\nDid you mean Blur?\n"


def test_a_server_is_asked_where_no_file_is_given(shell: Shell) -> None:
    assert shell.type("nodes", "KSampler", "--json").json[0]["class_type"] == "KSampler"


def test_the_stubs_of_a_server_make_workflows_that_run_there(
    shell: Shell, comfy_server: SimulatedServer
) -> None:
    """The module is written into a folder that is made for it."""
    ended = shell.type("nodes", "--stubs", "new/stubs")

    assert (ended.code, ended.out) == (0, "new/stubs/comfy_nodes.py\n")
    names: dict[str, object] = {}
    exec(compile((shell.folder / "new/stubs/comfy_nodes.py").read_text(), "stubs", "exec"), names)  # noqa: S102 - what is tested
    paper, save = names["EmptyImage"], names["SaveImage"]
    assert callable(paper)
    assert callable(save)
    Workflow.of(save(images=paper(width=16, height=16))).save(shell.folder / "made.json")
    assert shell.type("run", "made.json", "--name", "p").out == "output/p.png\n"


def test_a_program_made_from_a_servers_stubs_is_the_workflow(shell: Shell, file: tuple[str, ...]) -> None:
    """`convert --python`: an editor completes it, and it makes the same prompt."""
    prompt = {"3": {"class_type": "Blur", "inputs": {"radius": 4}}}
    (shell.folder / "blur.json").write_text(json.dumps(prompt))
    ended = shell.type("convert", "blur.json", "--python", *file)

    assert "from comfy_nodes import Blur\n" in ended.out
    with importable(CLASSES):
        assert ran(ended.out).to_api() == {"3": {"class_type": "Blur", "inputs": {"radius": 4}}}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--stubs", "out", "KSampler"], 2, "leave TEXT and --json out"),
        (["--stubs", "out", "--json"], 2, "leave TEXT and --json out"),
        (["--stubs", "classes.json/out", "--object-info", "classes.json"], 2, "no folder can be made there"),
        (["--object-info", "empty.json"], 2, "no node classes"),
        (["--object-info", "missing.json"], 2, "missing.json"),
        (["--server", NOWHERE], 3, "Cannot reach"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: list[str], code: int, said: str, shell: Shell, file: tuple[str, ...]
) -> None:
    (shell.folder / "empty.json").write_text("{}")
    ended = shell.type("nodes", *words)

    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert shell.files() == []
