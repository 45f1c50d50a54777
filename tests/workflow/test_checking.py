"""`Workflow.check` says beforehand what a server's validation says, and what people wonder about later."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.errors import WorkflowError
from async_comfy.workflow import Finding, Workflow

HERE = Path(__file__).parent
INFO: dict[str, Any] = json.loads((HERE / "object_info.json").read_text())
RECORDED = [json.loads(line) for line in (HERE / "validation.jsonl").read_text().splitlines()]

NOT_LOADED = {"no class_type", "inputs null", "node is a string", "node is null"}
PYTHON_OF_A_NODE = {
    "custom VALIDATE_INPUTS string",
    "custom VALIDATE_INPUTS False",
    "custom VALIDATE_INPUTS raises",
}
MENDED = {"no 'inputs' key", "no 'inputs' key on output"}  # loading gives the node empty inputs
COMPARED = [c for c in RECORDED if c["name"] not in NOT_LOADED | PYTHON_OF_A_NODE | MENDED]


def named(name: str) -> Any:
    return next(case for case in RECORDED if case["name"] == name)


def loaded(prompt: dict[str, Any]) -> Workflow:
    return Workflow.load(prompt) if prompt else Workflow()


def errors(workflow: Workflow, **options: Any) -> list[Finding]:
    return [found for found in workflow.check(INFO, **options) if found.severity == "error"]


def kinds(workflow: Workflow, **options: Any) -> list[str]:
    return [found.kind for found in workflow.check(INFO, **options)]


def picture() -> Workflow:
    workflow = Workflow()
    made = workflow.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
    workflow.add("SaveImage", images=made[0], filename_prefix="x")
    return workflow


@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case["name"])
def test_the_errors_are_those_that_a_real_server_gave(case: Any) -> None:
    """Node by node and kind by kind; the input too, wherever the server named one."""
    found = errors(loaded(case["prompt"]))
    assert sorted((e.node or "", e.kind) for e in found) == sorted((n or "", k) for n, k, _ in case["errors"])
    told = {(node, kind, name) for node, kind, name in case["errors"] if name is not None}
    assert told <= {(e.node, e.kind, e.input) for e in found}


@pytest.mark.parametrize("name", sorted(NOT_LOADED))
def test_what_a_server_stumbles_over_is_not_even_loaded(name: str) -> None:
    case = named(name)
    assert case["status"] in (400, 500)
    with pytest.raises(WorkflowError, match=r"node|no workflow"):
        Workflow.load(case["prompt"])


@pytest.mark.parametrize("name", sorted(MENDED))
def test_a_node_without_inputs_is_mended_and_then_misses_them(name: str) -> None:
    case = named(name)
    found = errors(Workflow.load(case["prompt"]))
    assert {e.node for e in found} == {node for node, _, _ in case["errors"]}
    assert {e.kind for e in found} == {"required_input_missing"}


@pytest.mark.parametrize("name", sorted(PYTHON_OF_A_NODE))
def test_what_a_node_checks_in_its_own_python_stays_unknown(name: str) -> None:
    assert errors(Workflow.load(named(name)["prompt"])) == []


def test_all_kinds_of_the_recording_are_compared_or_named_as_an_exception() -> None:
    assert len(COMPARED) + len(NOT_LOADED) + len(PYTHON_OF_A_NODE) + len(MENDED) == len(RECORDED) == 41


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("1.width", 0, "error: node 1 (EmptyImage), input 'width': 0 is smaller than 1, the least it takes."),
        ("1.width", "abc", "error: node 1 (EmptyImage), input 'width': takes INT, and 'abc' is none."),
        ("2.images", ["9", 0], "input 'images': links to node '9', which is not there."),
        ("2.images", [1, 0], "Write the id as text: '1'."),
        ("2.images", ["1", 3], "links to output 3 of node 1, which has 1, counted from 0."),
        ("2.images", ["1"], '{"__value__": [...]}'),
        ("1.width", float("inf"), "takes INT"),
    ],
)
def test_a_finding_is_one_readable_sentence(path: str, value: Any, says: str) -> None:
    workflow = picture()
    workflow.set(path, value)
    [found] = errors(workflow)
    assert says in str(found)
    assert "\n" not in str(found)
    assert json.loads(json.dumps(found.as_dict()))["kind"] == found.kind


def test_a_missing_model_names_the_nearest_on_that_server() -> None:
    workflow = picture()
    info = {**INFO, "CheckpointLoaderSimple": json.loads(json.dumps(INFO["CheckpointLoaderSimple"]))}
    info["CheckpointLoaderSimple"]["output_node"] = True
    info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = [
        "SDXL/sd_xl_base_1.0.safetensors",
        "other.ckpt",
    ]
    workflow.add("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0_0.9vae.safetensors")
    [found] = [f for f in workflow.check(info) if f.severity == "error"]
    assert found.kind == "value_not_in_list"
    assert found.hint == "Nearest: SDXL/sd_xl_base_1.0.safetensors."
    assert found.allowed == ["SDXL/sd_xl_base_1.0.safetensors", "other.ckpt"]


def test_an_unknown_class_names_its_pack_where_the_file_says_so() -> None:
    prompt = {"5": {"class_type": "Fancy Sampler", "inputs": {}}, **picture().to_api()}
    prompt["7"] = {"class_type": "SaveImag", "inputs": {}}
    ui = {"nodes": [{"id": 5, "type": "Fancy Sampler", "properties": {"cnr_id": "fancy-pack"}}], "links": []}
    workflow = Workflow.load({"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": ui}}})
    hints = {found.node: found.hint for found in errors(workflow) if found.kind == "missing_node_type"}
    assert "fancy-pack" in hints["5"]
    assert "SaveImage" in hints["7"]


def test_nodes_that_no_output_needs_are_noted_and_not_validated() -> None:
    workflow = picture()
    workflow.add("EmptyImage", width=0)
    assert kinds(workflow) == ["unused_node"]


def test_an_input_that_the_class_has_not_is_noted_with_the_nearest_that_is_missing() -> None:
    workflow = picture()
    workflow["1"].inputs["heigth"] = 8
    del workflow["1"].inputs["height"]
    found = workflow.check(INFO)
    assert [(f.severity, f.kind, f.input) for f in found] == [
        ("error", "required_input_missing", "height"),
        ("note", "unknown_input", "heigth"),
    ]
    assert "'height'" in found[1].hint


def test_a_literal_where_only_a_node_can_make_the_value_is_a_warning() -> None:
    workflow = picture()
    workflow["2"].inputs["images"] = "cat.png"
    assert "link_expected" in kinds(workflow)


def test_megabytes_of_text_in_an_input_are_a_warning() -> None:
    workflow = picture()
    workflow["2"].inputs["filename_prefix"] = "A" * 2_000_000
    [found] = workflow.check(INFO)
    assert (found.kind, found.severity) == ("heavy_input", "warning")
    assert "2.0 MB" in found.message


def test_a_partner_node_needs_a_key() -> None:
    workflow = picture()
    workflow.add("GeminiImageNode", prompt="x")
    workflow["SaveImage"].inputs["images"] = ["3", 0]
    assert "api_key_missing" in kinds(workflow)
    assert "api_key_missing" not in kinds(workflow, api_key=True)


def test_dynamic_inputs_are_opened_by_their_choice() -> None:
    workflow = Workflow()
    save = workflow.add("SaveVideo", video=["9", 0], filename_prefix="v", format="auto")
    missing = {(f.kind, f.input) for f in errors(workflow)}
    assert ("required_input_missing", "format.codec") in missing
    save.inputs["format.codec"] = "nonsense"
    assert ("value_not_in_list", "format.codec") in {(f.kind, f.input) for f in errors(workflow)}
    save.inputs["format.codec"] = "auto"
    assert {f.input for f in errors(workflow)} == {"video"}


def test_grown_inputs_need_their_least_number_and_their_type() -> None:
    workflow = picture()
    batch = workflow.add("BatchImagesNode")
    workflow["SaveImage"].inputs["images"] = batch[0]
    assert [(f.kind, f.input) for f in errors(workflow)] == [("required_input_missing", "images.image0")]
    batch.inputs["images.image0"] = workflow["1"][0]
    assert errors(workflow) == []
    batch.inputs["images.image1"] = workflow.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
    assert [f.kind for f in errors(workflow)] == ["return_type_mismatch"]


def test_several_types_and_any_type_fit() -> None:
    workflow = picture()
    switch = workflow.add("ComfySwitchNode", switch=True, on_false=workflow["1"][0], on_true=workflow["1"][0])
    workflow["SaveImage"].inputs["images"] = switch[0]
    assert errors(workflow) == []


@pytest.mark.parametrize(("length", "kinds_found"), [(900, []), (1100, ["too_deep"]), (20_000, ["too_deep"])])
def test_a_chain_that_a_server_cannot_validate_is_found_however_long(
    length: int, kinds_found: list[str]
) -> None:
    prompt = picture().to_api()
    for index in range(length):
        prompt[f"n{index}"] = {
            "class_type": "ImageInvert",
            "inputs": {"image": [f"n{index - 1}" if index else "1", 0]},
        }
    prompt["2"]["inputs"]["images"] = [f"n{length - 1}", 0]
    assert [f.kind for f in errors(Workflow.load(prompt))] == kinds_found


def test_a_ladder_of_two_way_links_is_walked_once() -> None:
    """40 rungs have 2**40 ways down; the check takes each node once."""
    prompt = picture().to_api()
    before = "1"
    for index in range(40):
        inputs = {"on_false": [before, 0], "on_true": [before, 0], "switch": True}
        prompt[f"n{index}"] = {"class_type": "ComfySwitchNode", "inputs": inputs}
        before = f"n{index}"
    prompt["2"]["inputs"]["images"] = [before, 0]
    assert errors(Workflow.load(prompt)) == []


def test_seeds_left_to_chance_are_warned_of() -> None:
    ui = {
        "nodes": [{"id": 1, "type": "RandomNoise", "widgets_values": [5, "randomize"]}],
        "links": [],
    }
    prompt = {
        "1": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}},
        "2": {"class_type": "ProbeV3", "inputs": {"image": ["1", 0], "mode": "a"}},
    }
    workflow = Workflow.load({"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": ui}}})
    found = {(f.node, f.kind, f.input) for f in workflow.check(INFO) if f.severity == "warning"}
    assert found == {("1", "seed_randomized", "noise_seed"), ("2", "seed_missing", "seed")}


def test_an_output_made_before_is_told_until_something_it_needs_changes() -> None:
    workflow = picture()
    before = [workflow.copy()]
    assert kinds(workflow, earlier=before) == ["output_cached"]
    workflow.set("1.color", 7)
    assert kinds(workflow, earlier=before) == []


def test_a_file_to_be_uploaded_is_not_looked_for_on_the_server() -> None:
    workflow = picture()
    workflow["2"].inputs["images"] = workflow.add("LoadImage", image=Path("cat.png"))[0]
    assert errors(workflow) == []
    workflow["LoadImage"].inputs["image"] = "cat.png"
    assert [f.kind for f in errors(workflow)] == ["custom_validation_failed"]
    workflow["LoadImage"].inputs["image"] = "folder/cat.png [output]"
    assert errors(workflow) == []


@pytest.mark.parametrize(
    "example", sorted((HERE.parents[1] / "docs" / "examples").glob("*.json")), ids=lambda path: path.stem
)
def test_the_examples_have_no_error_but_models_that_this_server_has_not(example: Path) -> None:
    found = Workflow.load(example).check(INFO)
    assert {f.input for f in found} <= {
        "ckpt_name",
        "vae_name",
        "unet_name",
        "clip_name1",
        "clip_name2",
    }
    assert {f.kind for f in found} == {"value_not_in_list"}


CLASSES = st.sampled_from([*INFO, "Nobody"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.tuples(st.sampled_from(["0", "1", "2", "3"]), st.integers(-2, 3)).map(list),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.lists(CLASSES, max_size=4), st.data())
def test_any_workflow_can_be_checked(classes: list[str], draw: st.DataObject) -> None:
    """Whatever is linked to whatever: the check ends, and says only what it can show."""
    workflow = Workflow()
    for index, class_type in enumerate(classes):
        declared = INFO.get(class_type, {}).get("input", {})
        names = [*declared.get("required", {}), *declared.get("optional", {})]
        inputs = draw.draw(st.dictionaries(st.sampled_from(names or ["x"]), VALUES))
        node = workflow.add(class_type, id=str(index))
        node.inputs.update(inputs)
    for found in workflow.check(INFO, earlier=[workflow]):
        assert str(found).startswith(found.severity)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda i: (
            st.lists(i)
            | st.dictionaries(st.sampled_from(["input", "required", "optional", "output", "x"]), i)
        ),
    )
)
def test_whatever_a_server_declares_the_check_does_not_fall_over(declared: Any) -> None:
    workflow = Workflow()
    workflow.add("A", x=1, y=["1", 0])
    workflow.check({"A": declared})
