"""`templates`: the example workflows of a server, and a run of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.live.pictures import diffusion, picture

NAME = "my_nodes/paper"
SOURCE = "https://models.example/big.safetensors"


@pytest.fixture(autouse=True)
def shelves(comfy_server: SimulatedServer) -> None:
    """A package of custom nodes with one example, and the editor's own."""
    root = comfy_server.folders.root
    put(root / "custom_nodes/my_nodes/example_workflows/paper.json", picture().to_api())
    index = [{"templates": [{"name": "fox", "title": "A Fox", "models": ["SDXL"]}, {"name": "drawn"}]}]
    put(root / "templates/index.json", index)
    put(root / "templates/fox.json", diffusion().to_api())
    put(root / "templates/drawn.json", drawn("sd_xl_base_1.0.safetensors"))
    put(root / "templates/big.json", drawn("big.safetensors"))


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def drawn(checkpoint: str) -> dict[str, Any]:
    """The editor's format: a loader, an empty latent, its pixels, and saving them."""
    described = {"models": [{"name": "big.safetensors", "url": SOURCE, "directory": "checkpoints"}]}
    nodes = [
        (1, "CheckpointLoaderSimple", [], ["MODEL", "CLIP", "VAE"], [checkpoint], described),
        (2, "EmptyLatentImage", [], ["LATENT"], [64, 64, 1], {}),
        (3, "VAEDecode", [("samples", "LATENT", 1), ("vae", "VAE", 2)], ["IMAGE"], [], {}),
        (4, "SaveImage", [("images", "IMAGE", 3)], [], ["drawn"], {}),
    ]
    return {
        "version": 0.4,
        "nodes": [
            {
                "id": number,
                "type": kind,
                "mode": 0,
                "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
                "outputs": [{"name": name, "type": name} for name in outputs],
                "widgets_values": values,
                "properties": properties,
            }
            for number, kind, inputs, outputs, values, properties in nodes
        ],
        "links": [[1, 2, 0, 3, 0, "LATENT"], [2, 1, 2, 3, 1, "VAE"], [3, 3, 0, 4, 0, "IMAGE"]],
    }


def test_they_are_listed_as_the_command_takes_them(shell: Shell) -> None:
    """Those of custom nodes by package, then the editor's."""
    lines = [line.split() for line in shell.type("templates").out.splitlines()]
    assert lines == [[NAME], ["fox", "A", "Fox"], ["drawn"]]
    brought, offered, _ = shell.type("templates", "list", "--json").json
    empty = {"title": "", "description": "", "models": []}
    assert brought == {"template": NAME, "package": "my_nodes", "name": "paper", **empty}
    assert offered == {
        **empty,
        "template": "fox",
        "package": "",
        "name": "fox",
        "title": "A Fox",
        "models": ["SDXL"],
    }


def test_some_are_found_by_words(shell: Shell) -> None:
    """All of them, in name, title or models; none is exit code 2."""
    assert shell.type("templates", "list", "sdxl", "fox").out == "fox  A Fox\n"
    ended = shell.type("templates", "list", "walrus")
    assert (ended.code, ended.out) == (2, "")
    assert "'walrus'" in ended.err


@pytest.mark.parametrize(("name", "made"), [(NAME, picture), ("fox", diffusion)])
def test_one_is_shown_as_it_is(name: str, made: Any, shell: Shell) -> None:
    """JSON either way, in one line for programs."""
    expected: Workflow = made()
    assert json.loads(shell.type("templates", "show", name).out) == expected.to_api()
    assert shell.type("templates", "show", name, "--json").json == [expected.to_api()]


def test_one_that_is_saved_runs(shell: Shell) -> None:
    """The path is on stdout; `run` takes it."""
    saved = shell.type("templates", "show", NAME, "--save", "paper.json")

    assert (saved.code, saved.out) == (0, "paper.json\n")
    assert shell.type("run", "paper.json").code == 0


def test_a_file_that_is_there_is_kept(shell: Shell) -> None:
    """Exit code 2."""
    (shell.folder / "paper.json").write_text("mine")

    ended = shell.type("templates", "show", NAME, "--save", "paper.json")
    assert ended.code == 2
    assert "paper.json exists" in ended.err
    assert (shell.folder / "paper.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "a/"], 2, "neither NAME nor PACKAGE/NAME"),
        (["show", "/a"], 2, "neither NAME nor PACKAGE/NAME"),
        (["show", "my_nodes/pen"], 1, "no template my_nodes/pen"),
        (["show", "pen"], 1, "no template pen"),
        (["show", "../secrets"], 2, ""),
        (["run", "pen"], 1, "no template pen"),
        (["run", "fox", "--set", "9.text=a"], 2, "no node '9'"),
        (["run", "fox", "--count", "0"], 2, "--count"),
        (["pen"], 2, "No such command 'pen'"),
    ],
)
def test_what_is_no_template(words: list[str], code: int, said: str, shell: Shell) -> None:
    """One line; nothing is written."""
    ended = shell.type("templates", *words)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize("name", [NAME, "fox", "drawn"])
def test_one_runs_in_one_command(name: str, shell: Shell) -> None:
    """Also one in the editor's format, by the server's own list of nodes."""
    ended = shell.type("templates", "run", name, "--output", "out")

    assert ended.code == 0
    assert ended.out.split() == shell.files("out/**/*.png")


def test_its_parameters_are_those_of_run(shell: Shell, comfy_server: SimulatedServer) -> None:
    """--set, --seed, --count and --json; the files are named after the template."""
    words = ("--set", "KSampler.steps=2", "--seed", "7", "--count", "2", "--json", "-o", "out")
    ended = shell.type("templates", "run", "fox", *words)

    assert ended.code == 0
    results = [line for line in ended.json if line["type"] == "result"]
    assert sorted(one["seeds"]["5.seed"] for one in results) == [7, 8]
    assert ended.json[0]["workflow"] == "fox"
    sent = [seen.json["prompt"]["5"]["inputs"] for seen in posted(comfy_server)]
    assert [inputs["steps"] for inputs in sent] == [2, 2]


def posted(server: SimulatedServer) -> list[Any]:
    return [seen for seen in server.requests if (seen.method, seen.path) == ("POST", "/prompt")]


def test_models_that_are_missing_are_told_before_anything_is_sent(
    shell: Shell, comfy_server: SimulatedServer
) -> None:
    """By name, and where the template says that they come from. Exit code 4."""
    ended = shell.type("templates", "run", "big")

    assert (ended.code, ended.out) == (4, "")
    assert "lacks models that big needs: big.safetensors." in ended.err
    assert f"models/checkpoints/big.safetensors: {SOURCE}" in ended.err
    assert posted(comfy_server) == []


def test_a_model_may_be_chosen_instead(shell: Shell) -> None:
    """With --set."""
    name = "CheckpointLoaderSimple.ckpt_name=sd_xl_base_1.0.safetensors"
    assert shell.type("templates", "run", "big", "--set", name).code == 0


def test_what_else_would_be_refused_is_told_too(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Node by node. Exit code 4."""
    ended = shell.type("templates", "run", "fox", "--set", "KSampler.steps=0")

    assert (ended.code, ended.out) == (4, "")
    assert "would refuse fox" in ended.err
    assert "'steps'" in ended.err
    assert posted(comfy_server) == []


def test_a_template_that_does_nothing_is_said_to(shell: Shell, comfy_server: SimulatedServer) -> None:
    """What is wrong with the whole stands in the line itself."""
    put(comfy_server.folders.root / "templates/empty.json", {"version": 0.4, "nodes": [], "links": []})

    ended = shell.type("templates", "run", "empty")
    assert (ended.code, ended.out) == (4, "")
    assert "would refuse empty: the workflow has no output node." in ended.err


def test_a_server_without_templates(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Not an error."""
    for file in comfy_server.folders.root.rglob("*.json"):
        file.unlink()

    ended = shell.type("templates")
    assert (ended.code, ended.out) == (0, "")
    assert "without templates" in ended.err
