"""What a caller would want to set is listed, named, typed and bounded, and a sidecar has the last word."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.errors import WorkflowError
from async_comfy.workflow import File, Parameter, Workflow

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "docs" / "examples"
INFO: dict[str, Any] = json.loads((HERE / "object_info.json").read_text())


@pytest.fixture
def sdxl() -> Workflow:
    return Workflow.load(EXAMPLES / "sdxl_text_to_image.json")


def test_prompts_seeds_sizes_steps_and_models_are_listed_by_stable_names(sdxl: Workflow) -> None:
    found = {p.name: (p.path, p.kind) for p in sdxl.parameters()}
    assert found == {
        "seed": ("3.seed", "seed"),
        "steps": ("3.steps", "sampling"),
        "cfg": ("3.cfg", "sampling"),
        "sampler_name": ("3.sampler_name", "sampling"),
        "scheduler": ("3.scheduler", "sampling"),
        "denoise": ("3.denoise", "sampling"),
        "ckpt_name": ("4.ckpt_name", "model"),
        "width": ("5.width", "size"),
        "height": ("5.height", "size"),
        "batch_size": ("5.batch_size", "size"),
        "positive_prompt": ("6.text", "prompt"),
        "negative_prompt": ("7.text", "prompt"),
    }


def test_types_ranges_and_choices_come_from_the_server(sdxl: Workflow) -> None:
    found = sdxl.parameters(INFO)
    steps, sampler, cfg = found.named("steps"), found.named("sampler_name"), found.named("cfg")
    assert (steps.type, steps.minimum, steps.maximum, steps.default) == ("integer", 1, 10000, 20)
    assert sampler.choices is not None
    assert "euler" in sampler.choices
    assert (cfg.type, cfg.step) == ("number", 0.1)
    assert found.named("positive_prompt").multiline


def test_untitled_prompts_are_named_after_what_they_are_for() -> None:
    workflow = Workflow()
    good = workflow.add("CLIPTextEncode", title="CLIP Text Encode (Prompt)", text="a")
    bad = workflow.add("CLIPTextEncode", title="CLIP Text Encode (Prompt)", text="b")
    guided = workflow.add("FluxGuidance", conditioning=good[0])
    workflow.add("KSampler", positive=guided[0], negative=bad[0])
    assert [(p.name, p.path) for p in workflow.parameters()] == [
        ("positive_prompt", "1.text"),
        ("negative_prompt", "2.text"),
    ]


def test_names_that_would_be_shared_are_lengthened_for_all_of_them() -> None:
    workflow = Workflow()
    workflow.add("KSampler", title="Base", steps=20)
    workflow.add("KSampler", title="Refiner", steps=10)
    for _ in range(2):
        workflow.add("LoadImage", title="Load Image", image="a.png")
    names = [p.name for p in workflow.parameters()]
    assert names == ["base_steps", "refiner_steps", "load_image_3", "load_image_4"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["KSampler", "CLIPTextEncode", "LoadImage", "PrimitiveInt"]),
            st.sampled_from(
                ["", "A", "a", "A a", "a_a", "image", "Ünïcödé 你好", "!!", "steps", "load_image_1"]
            ),
        ),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_names_are_unique_and_do_not_depend_on_values(nodes: list[tuple[str, str]], rng: Any) -> None:
    inputs = {"KSampler": "steps", "CLIPTextEncode": "text", "LoadImage": "image", "PrimitiveInt": "value"}
    first, second = Workflow(), Workflow()
    for class_type, title in nodes:
        for workflow in (first, second):
            node = workflow.add(class_type, title=title)
            node.inputs[inputs[class_type]] = (
                str(rng.random()) if class_type != "PrimitiveInt" else rng.randrange(9)
            )
    names = [p.name for p in first.parameters()]
    assert len(set(names)) == len(names) == len(nodes)
    assert names == [p.name for p in second.parameters()]


UI = {
    "nodes": [
        {"id": 1, "type": "LoadImage"},
        {"id": 9, "type": "sub", "inputs": [{"name": "text", "label": "What to paint"}]},
        {"id": 8, "type": "old", "properties": {"proxyWidgets": [["3", "strength"]]}},
    ],
    "links": [],
    "definitions": {
        "subgraphs": [
            {
                "id": "sub",
                "inputs": [{"name": "text", "linkIds": [7]}],
                "nodes": [{"id": 4, "type": "inner", "inputs": [{"name": "prompt"}]}],
                "links": [{"id": 7, "target_id": 4, "target_slot": 0}],
            },
            {
                "id": "inner",
                "inputs": [{"name": "prompt", "linkIds": [2]}],
                "nodes": [{"id": 5, "type": "CLIPTextEncode", "inputs": [{"name": "text"}]}],
                "links": [[2, -10, 0, 5, 0, "STRING"]],
            },
            {"id": "old", "inputs": [], "nodes": [{"id": 3, "type": "X"}], "links": []},
        ]
    },
    "extra": {"linearData": {"inputs": [["9", "text"], ["1", "image"]], "outputs": []}},
}
NESTED = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "9:4:5": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
    "9:4:6": {"class_type": "KSampler", "inputs": {"steps": 4, "seed": 1}},
    "8:3": {"class_type": "X", "inputs": {"strength": 0.5, "other": 1}},
}


def test_what_the_author_shows_of_subgraphs_is_listed_under_his_labels_and_first_in_app_mode() -> None:
    workflow = Workflow.load({"prompt": NESTED, "extra_data": {"extra_pnginfo": {"workflow": UI}}})
    assert [(p.name, p.path, p.kind) for p in workflow.parameters()] == [
        ("what_to_paint", "9:4:5.text", "prompt"),
        ("image", "1.image", "file"),
        ("seed", "9:4:6.seed", "seed"),  # seeds are listed wherever they are
        ("strength", "8:3.strength", "promoted"),
    ]


@given(
    st.recursive(
        st.none() | st.integers(0, 9) | st.sampled_from(["sub", "9", "text"]),
        lambda i: (
            st.lists(i)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "nodes",
                        "id",
                        "type",
                        "inputs",
                        "links",
                        "linkIds",
                        "definitions",
                        "subgraphs",
                        "extra",
                        "linearData",
                        "properties",
                        "proxyWidgets",
                        "name",
                        "widget",
                    ]
                ),
                i,
            )
        ),
        max_leaves=30,
    )
)
def test_a_damaged_editors_document_costs_labels_and_nothing_else(broken: Any) -> None:
    for ui in ({"nodes": [], "extra": broken}, {"nodes": [broken], "definitions": broken}):
        workflow = Workflow.load({"prompt": NESTED, "extra_data": {"extra_pnginfo": {"workflow": ui}}})
        assert {p.path for p in workflow.parameters()} >= {"1.image", "9:4:6.seed"}
        assert "missing_node_type" in {f.kind for f in workflow.check(INFO)}


def test_a_subgraph_that_holds_itself_ends() -> None:
    graph = {
        "id": "s",
        "inputs": [{"name": "x", "linkIds": [1]}],
        "nodes": [{"id": 2, "type": "s", "inputs": [{"name": "x"}]}],
        "links": [[1, -10, 0, 2, 0, "*"]],
    }
    ui = {"nodes": [{"id": 1, "type": "s"}], "links": [], "definitions": {"subgraphs": [graph]}}
    workflow = Workflow.load({"prompt": NESTED, "extra_data": {"extra_pnginfo": {"workflow": ui}}})
    assert len(workflow.parameters()) > 0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", 0, "takes 1 at least, not 0"),
        ("steps", 10**9, "takes 10000 at most"),
        ("steps", 2.5, "takes a whole number"),
        ("steps", True, "takes a whole number"),
        ("steps", "20", "takes a whole number"),
        ("steps", float("inf"), "takes a whole number"),
        ("cfg", float("nan"), "takes a number"),
        ("positive_prompt", 7, "takes text"),
        ("sampler_name", "eulr", "takes one of euler"),
        ("stepps", 1, "Did you mean 'steps'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_fits(
    sdxl: Workflow, name: str, value: Any, says: str
) -> None:
    with pytest.raises(WorkflowError, match=says):
        sdxl.with_parameters({name: value}, sdxl.parameters(INFO))


def test_values_are_set_on_a_copy(sdxl: Workflow) -> None:
    variant = sdxl.with_parameters(
        {"positive_prompt": "a fox", "steps": 30.0, "cfg": 4}, sdxl.parameters(INFO)
    )
    assert (variant.get("6.text"), variant.get("3.steps"), variant.get("3.cfg")) == ("a fox", 30, 4)
    assert isinstance(variant.get("3.steps"), int)
    assert sdxl.get("3.steps") == 20


def test_a_file_parameter_takes_a_file_or_a_name_on_the_server() -> None:
    workflow = Workflow()
    workflow.add("LoadImage", image="a.png")
    [image] = workflow.parameters(INFO)
    assert (image.type, image.media) == ("file", "image")
    variant = workflow.with_parameters({"image": Path("cat.png")})
    assert isinstance(variant["1"].inputs["image"], File)
    assert workflow.with_parameters({"image": "b.png"}).get("1.image") == "b.png"
    with pytest.raises(WorkflowError, match="takes a file"):
        workflow.with_parameters({"image": 3})
    assert image.schema()["contentMediaType"] == "image/*"


def test_the_json_schema_says_the_same(sdxl: Workflow) -> None:
    schema = sdxl.parameters(INFO).schema("SDXL")
    assert schema == json.loads(json.dumps(schema))
    assert (schema["type"], schema["title"], schema["additionalProperties"]) == ("object", "SDXL", False)
    steps = schema["properties"]["steps"]
    assert (steps["type"], steps["minimum"], steps["maximum"], steps["default"]) == ("integer", 1, 10000, 20)
    assert "euler" in schema["properties"]["sampler_name"]["enum"]


RULES = """
[positive_prompt]
name = "prompt"
label = "What to paint"
description = "In English"

[steps]
min = 10
max = 20000
default = 12

[negative_prompt]
hide = true

[width]
pin = 768

["Save Image.filename_prefix"]
name = "prefix"

["3.scheduler"]
choices = ["normal", "karras"]
"""


@pytest.mark.parametrize("form", ["toml", "json", "mapping"])
def test_a_sidecar_renames_bounds_hides_pins_and_lists_more(
    sdxl: Workflow, tmp_path: Path, form: str
) -> None:
    import tomllib

    path = tmp_path / f"sdxl.{form}"
    path.write_text(RULES if form == "toml" else json.dumps(tomllib.loads(RULES)))
    found = sdxl.parameters(INFO, rules=tomllib.loads(RULES) if form == "mapping" else path)
    by_name: dict[str, Parameter] = {p.name: p for p in found}
    assert by_name.keys() >= {"prompt", "steps", "prefix", "scheduler"}
    assert not by_name.keys() & {"positive_prompt", "negative_prompt", "width"}
    assert (by_name["prompt"].label, by_name["prompt"].description) == ("What to paint", "In English")
    steps = by_name["steps"]
    assert (steps.minimum, steps.maximum, steps.default) == (10, 10000, 12), "narrowed, never widened"
    assert by_name["scheduler"].choices == ("normal", "karras")
    variant = sdxl.with_parameters({"prompt": "x", "prefix": "y"}, found)
    assert (variant.get("5.width"), variant.get("6.text"), variant.get("9.filename_prefix")) == (
        768,
        "x",
        "y",
    )


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"stepps": {"hide": True}}, "Did you mean 'steps'"),
        ({"9.nothing": {"hide": True}}, "no parameter '9.nothing'"),
        ({"steps": {"maximum": 3}}, "steps.*It may hold: name"),
        ({"steps": {"min": "x"}}, "sidecar, steps"),
        ({"steps": 3}, "sidecar, steps"),
        ({"steps": {"name": "cfg"}}, "two parameters would be named 'cfg'"),
        ({"width": {"pin": "wide"}}, "takes a whole number"),
    ],
)
def test_a_sidecar_that_does_not_fit_says_where(sdxl: Workflow, rules: Any, says: str) -> None:
    with pytest.raises(WorkflowError, match=says):
        sdxl.parameters(INFO, rules=rules)


def test_a_broken_sidecar_file_is_named(sdxl: Workflow, tmp_path: Path) -> None:
    for name, text in {"a.toml": "[x", "a.json": "{", "b.json": "[]"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(WorkflowError, match=name):
            sdxl.parameters(rules=tmp_path / name)
    with pytest.raises(WorkflowError, match="cannot be read"):
        sdxl.parameters(rules=tmp_path / "none.toml")
