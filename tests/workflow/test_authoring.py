"""Workflows written in Python, with a typed function for each node class."""

import ast
import gzip
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import CallerError, File, Workflow, WorkflowError
from async_comfy.workflow.authoring import DEFAULT, OMITTED, NewNode, Socket
from async_comfy.workflow.authoring.names import Names, identifier, snake
from async_comfy.workflow.authoring.source import docstring, literal
from async_comfy.workflow.authoring.stubs import module, write
from tests.workflow.stubs import functions, imported

DATA = Path(__file__).parent / "conversion"
ROOT = Path(__file__).parents[2]

CLASSES: dict[str, Any] = {
    "Loader": {
        "input": {"required": {"ckpt_name": [["a.safetensors"], {"tooltip": "Which model."}]}},
        "output": ["MODEL", "CLIP", "VAE"],
        "output_name": ["MODEL", "CLIP", "VAE"],
        "display_name": "Load Checkpoint",
        "description": "Loads a model.",
        "category": "loaders",
    },
    "Empty": {"input": {"required": {"width": ["INT", {"default": 512, "min": 16, "max": 4096, "step": 8}]}},
              "output": ["LATENT"]},
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "latent": ["LATENT"],
                "seed": ["INT", {"default": 0, "min": 0, "max": 9}],
                "sampler": ["COMBO", {"options": ["euler", "ddim"]}],
            },
            "optional": {"mask": ["MASK"], "strength": ["FLOAT", {"default": 1.0}]},
        },
        "output": ["LATENT"],
    },
    "Decode": {"input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}}, "output": ["IMAGE"]},
    "Load Image 1.5": {"input": {"required": {"class": [["x.png"], {"image_upload": True}]}},
                       "output": ["IMAGE"]},
    "Batch": {
        "input": {
            "required": {
                "images": ["COMFY_AUTOGROW_V3",
                           {"template": {"input": {"required": {"image": ["IMAGE"]}}, "prefix": "image",
                                         "min": 1, "max": 3}}]
            }
        },
        "output": ["IMAGE"],
    },
    "Switch": {
        "input": {"required": {
            "a": ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t", "allowed_types": "*"}}],
            "b": ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t", "allowed_types": "*"}}],
        }},
        "output": ["COMFY_MATCHTYPE_V3"],
        "output_matchtypes": ["t"],
    },
    "Resize": {
        "input": {"required": {
            "input": ["COMFY_MATCHTYPE_V3",
                      {"template": {"template_id": "t", "allowed_types": "IMAGE,MASK"}}],
        }},
        "output": ["COMFY_MATCHTYPE_V3", "INT"],
        "output_name": ["resized", "WIDTH"],
        "output_matchtypes": ["t", None],
    },
    "Save": {
        "input": {
            "required": {
                "images": ["IMAGE"],
                "format": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                    {"key": "png", "inputs": {"required": {"depth": ["INT", {"default": 8}]}}},
                    {"key": "jpg", "inputs": {"required": {"quality": ["FLOAT", {"default": 0.9}]}}},
                    {"key": "raw", "inputs": {}},
                ]}],
            }
        },
        "output": [],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def n() -> ModuleType:
    return imported(CLASSES)


def prompt(*ends: Any) -> dict[str, Any]:
    return Workflow.of(*ends).to_api()


def test_a_workflow_reads_as_what_it_does(n: ModuleType) -> None:
    """Defaults are the server's, ids are numbers, optional inputs are left out."""
    model, _, vae = n.Loader(ckpt_name="sd.safetensors")
    latent = n.Sampler(model=model, latent=n.Empty(), seed=7)
    save = n.Save(images=n.Decode(samples=latent, vae=vae), _title="Result")

    assert prompt(save) == {
        "1": {"class_type": "Loader", "inputs": {"ckpt_name": "sd.safetensors"}},
        "2": {"class_type": "Empty", "inputs": {"width": 512}},
        "3": {
            "class_type": "Sampler",
            "inputs": {"model": ["1", 0], "latent": ["2", 0], "seed": 7, "sampler": "euler"},
        },
        "4": {"class_type": "Decode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
        "5": {
            "class_type": "Save",
            "inputs": {"images": ["4", 0], "format": "png", "format.depth": 8},
            "_meta": {"title": "Result"},
        },
    }


def test_outputs_have_names_and_types(n: ModuleType) -> None:
    loaded = n.Loader(ckpt_name="x")

    assert isinstance(loaded.vae, n.VAE)
    assert isinstance(n.Empty(), n.LATENT)
    assert isinstance(n.Save(images=n.Empty()), NewNode)
    assert (loaded.vae.slot, loaded.vae.node) == (2, loaded.model.node)


def test_what_is_not_needed_by_the_ends_is_no_part_of_the_workflow(n: ModuleType) -> None:
    n.Empty()

    assert len(Workflow.of(n.Empty())) == 1
    assert len(Workflow.of()) == 0
    assert len(Workflow.of(n.Loader(ckpt_name="x"), n.Empty())) == 2


def test_the_options_of_a_choice_have_their_own_defaults(n: ModuleType) -> None:
    """Only those of what was chosen; what is given wins, and what is omitted is left out."""

    def saved(**options: Any) -> dict[str, Any]:
        found = Workflow.of(n.Save(images=n.Empty(), **options))["Save"].inputs
        return {name: value for name, value in found.items() if name != "images"}

    assert saved(format="jpg") == {"format": "jpg", "format.quality": 0.9}
    assert saved(format="jpg", format__quality=0.5) == {"format": "jpg", "format.quality": 0.5}
    assert saved(format="jpg", format__quality=OMITTED) == {"format": "jpg"}
    assert saved(format="raw") == {"format": "raw"}
    assert saved(format=OMITTED) == {}
    assert saved(format=DEFAULT, format__depth=16) == {"format.depth": 16}


def test_a_growing_input_takes_a_list_or_items_by_name(n: ModuleType) -> None:
    image = n.Decode(samples=n.Empty(), vae=n.Loader(ckpt_name="x").vae)
    named = Workflow.of(n.Batch(images={"image2": image}))["Batch"].inputs

    assert list(Workflow.of(n.Batch(images=[image, image]))["Batch"].inputs) == [
        "images.image0",
        "images.image1",
    ]
    assert list(named) == ["images.image2"]
    with pytest.raises(WorkflowError, match="images takes up to 3, not 4"):
        n.Batch(images=[image] * 4)


def test_names_that_python_does_not_allow_have_a_rule(n: ModuleType) -> None:
    made = n.Load_Image_1__5(class_="x.png", _more={"sub.folder": 1})

    assert prompt(made)["1"]["inputs"] == {"class": "x.png", "sub.folder": 1}


def test_a_file_goes_where_a_name_is_wanted(n: ModuleType) -> None:
    workflow = Workflow.of(n.Load_Image_1__5(class_=Path("fox.png")))

    assert [(item.input, str(item.file.value)) for item in workflow.files()] == [("class", "fox.png")]


def test_ids_are_kept_and_the_others_number_around_them(n: ModuleType) -> None:
    a, b = n.Empty(_id="1"), n.Empty(_id="29:5")
    save = n.Save(images=n.Switch(a=a, b=b))

    assert list(prompt(save)) == ["1", "29:5", "2", "3"]


def test_two_nodes_with_one_id_are_refused(n: ModuleType) -> None:
    with pytest.raises(WorkflowError, match="two nodes have the id '1'"):
        Workflow.of(n.Empty(_id="1"), n.Empty(_id="1"))


@pytest.mark.parametrize("end", [3, None, "1", (1, 2)])
def test_an_end_that_is_no_node_is_refused(end: Any) -> None:
    with pytest.raises(WorkflowError, match="is no node"):
        Workflow.of(end)


def test_a_value_that_no_prompt_can_hold_is_refused_with_its_place(n: ModuleType) -> None:
    with pytest.raises(WorkflowError, match=r"node 1 \(Empty\), input 'width': cannot hold a object"):
        Workflow.of(n.Empty(width=object()))
    with pytest.raises(WorkflowError, match="say which of its outputs"):
        Workflow.of(n.Empty(width=n.Save(images=n.Empty())))


def test_a_chain_longer_than_the_stack_is_collected(n: ModuleType) -> None:
    image: Any = n.Empty()
    for _ in range(3000):
        image = n.Switch(a=image, b=image)

    assert len(Workflow.of(image)) == 3001


def test_a_node_without_stubs_can_be_written_too() -> None:
    noise = NewNode("Anything", {"seed": 1}, id="9")
    workflow = Workflow.of(NewNode("Take", {"x": noise[3]}))

    assert workflow["Take"].inputs["x"] == ["9", 3]
    assert isinstance(noise[0], Socket)
    with pytest.raises(TypeError, match="not iterable"):
        list(noise)  # type: ignore[call-overload]  # what is tested


def test_docstrings_say_ranges_and_what_the_server_says(n: ModuleType) -> None:
    assert "Which model." in (n.Loader.__doc__ or "")
    assert "Loads a model." in (n.Loader.__doc__ or "")
    assert "Category: loaders." in (n.Loader.__doc__ or "")
    assert "From 16 to 4096 in steps of 8." in (n.Empty.__doc__ or "")


def annotation(source: str, function: str, parameter: str) -> str:
    """How a parameter is annotated, as written."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            found = next(one for one in node.args.kwonlyargs if one.arg == parameter)
            return ast.unparse(found.annotation or ast.Constant(None))
    raise AssertionError(function)


def test_choices_are_enumerated_unless_they_are_files_of_one_machine() -> None:
    source = module(CLASSES)

    assert annotation(source, "Sampler", "sampler") == "Literal['euler', 'ddim'] | COMBO"
    assert annotation(source, "Loader", "ckpt_name") == "str | COMBO"
    assert annotation(source, "Load_Image_1__5", "class_") == "Upload | COMBO"
    many = {"Many": {"input": {"required": {"a": ["COMBO", {"options": list(range(500))}]}}, "output": []}}
    assert annotation(module(many), "Many", "a") == "int | COMBO"


GOOD = """\
from async_comfy import Workflow
from comfy_nodes import Decode, Empty, Loader, Resize, Sampler, Save, Switch

model, clip, vae = Loader(ckpt_name="any.safetensors")
latent = Sampler(model=model, latent=Empty(width=64), seed=1, sampler="ddim")
switched = Switch(a=latent, b=latent)
resized, width = Resize(input=Decode(samples=switched, vae=vae))
workflow = Workflow.of(Save(images=resized), Empty(width=width))
"""

WRONG = {
    "Save(images=latent)": 'Argument "images" to "Save" has incompatible type "LATENT"; expected "IMAGE"',
    "Save(images=switched)": '"LATENT"; expected "IMAGE"',
    'Sampler(model=model, latent=latent, sampler="eulr")': "Literal['eulr']",
    "Resize(input=latent)": 'of "Resize" cannot be "LATENT"',
    "Decode(samples=resized, vae=vae)": '"IMAGE"; expected "LATENT"',
    "Sampler(model=model)": 'Missing named argument "latent"',
    'Empty(width="64")': '"str"; expected "int | INT"',
    "Empty(height=64)": 'Unexpected keyword argument "height"',
    "vae.nothing": '"VAE" has no attribute "nothing"',
}


def checked(folder: Path, program: str) -> str:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "comfy_nodes.py", "program.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_mypy_passes_what_fits_and_names_what_does_not(tmp_path: Path) -> None:
    """With --strict, the stubs themselves as well."""
    write(CLASSES, tmp_path)
    assert checked(tmp_path, GOOD) == ""

    found = checked(tmp_path, GOOD + "\n".join(WRONG)).splitlines()
    first = len(GOOD.splitlines()) + 1
    for line, said in enumerate(WRONG.values(), start=first):
        assert any(f"program.py:{line}: error: " in one and said in one for one in found), said


@pytest.mark.parametrize("width", ["88", "110"])
def test_a_formatter_leaves_the_stubs_of_a_whole_server_as_they_are(width: str, tmp_path: Path) -> None:
    """Those of 886 classes, whatever its line length from 88 on; and every class has its function."""
    declared = json.loads(gzip.decompress((DATA / "object_info.json.gz").read_bytes()))
    file = write(declared, tmp_path)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--isolated",
        "--check",
        "--line-length",
        width,
        str(file),
    ]

    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert len(functions(imported(declared))) == len(declared)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CallerError, match="no folder can be made there"):
        write(CLASSES, tmp_path / "file" / "stubs")


nasty = st.text(max_size=12) | st.sampled_from(
    [
        '"""',
        "\\",
        '\\"',
        "'''\nimport os",
        "class",
        "None",
        "str",
        "NewNode",
        "a.b",
        "a b",
        "_id",
        "1x",
        "é",
        "ﬁ",
        "*",
    ]
)
options = st.dictionaries(
    st.sampled_from(["default", "min", "max", "step", "tooltip", "options", "template", "multiselect"]),
    st.none() | st.integers() | st.floats() | nasty | st.lists(nasty | st.integers() | st.none(), max_size=3),
    max_size=4,
)
kinds = (
    st.sampled_from(["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGE", "*", "A,B", "COMFY_MATCHTYPE_V3"])
    | st.sampled_from(["COMFY_AUTOGROW_V3", "COMFY_DYNAMICCOMBO_V3"])
    | nasty
    | st.lists(nasty | st.integers() | st.booleans(), max_size=3)
)
inputs = st.dictionaries(nasty, st.tuples(kinds, options).map(list) | st.tuples(kinds).map(list), max_size=4)
classes = st.dictionaries(
    nasty,
    st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries({"required": inputs, "optional": inputs}),
            "output": st.lists(kinds, max_size=3),
        },
        optional={
            "output_name": st.lists(nasty),
            "display_name": nasty,
            "description": nasty,
            "category": nasty,
        },
    ),
    max_size=3,
)


@given(classes)
def test_nothing_that_a_server_says_gets_out_of_its_quotes(declared: dict[str, Any]) -> None:
    """The module compiles and runs, has a function for each class, and nothing but what it is made of."""
    statements = {type(node) for node in ast.parse(module(declared)).body}

    assert len(functions(imported(declared))) == len(declared)
    assert statements <= {ast.Expr, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign}


@given(classes)
def test_every_function_makes_a_node_of_its_class(declared: dict[str, Any]) -> None:
    """Called with whatever it must be given; inputs have the server's names."""
    for function, (class_type, raw) in zip(functions(imported(declared)), declared.items(), strict=True):
        wanted = [
            one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty
        ]
        end = function(**dict.fromkeys(wanted, OMITTED))
        node = end if isinstance(end, NewNode) else (end[0] if isinstance(end, tuple) else end).node
        assert node.class_type == class_type
        known = {*raw["input"]["required"], *raw["input"]["optional"]}
        assert node.inputs.keys() <= known


@given(st.text())
def test_every_text_is_some_identifier(name: str) -> None:
    assert identifier(name).isidentifier()
    assert snake(name) == "" or snake(name).isidentifier()
    assert not snake(name).startswith("_")


@given(st.lists(st.sampled_from(["a", "a_2", "b", "int"])))
def test_no_name_is_given_twice(wanted: list[str]) -> None:
    names = Names({"int"})
    given_ = [names.give(name) for name in wanted]

    assert len(set(given_)) == len(wanted)
    assert "int" not in given_


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_literal_is_its_value(value: Any) -> None:
    assert eval(literal(value), {"__builtins__": {"float": float}}) == value  # noqa: S307 - our own text


@given(st.lists(st.text(), min_size=1))
def test_a_docstring_is_one_string_whatever_it_says(paragraphs: list[str]) -> None:
    (statement,) = ast.parse(f"def f() -> None:\n{docstring(paragraphs)}\n").body[0].body  # type: ignore[attr-defined]  # a def
    assert isinstance(statement, ast.Expr)


def test_files_in_memory_stay_in_the_workflow(n: ModuleType) -> None:
    workflow = Workflow.of(n.Load_Image_1__5(class_=File(b"png")))

    assert workflow.files()[0].file.kind == "bytes"
