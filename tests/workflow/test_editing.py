"""Nodes are addressed by id, title or class, edited in place, and never shared with a copy."""

import copy
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.errors import WorkflowError
from async_comfy.workflow import File, Link, Node, NodeShape, Workflow, parse_value

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
INFO: dict[str, Any] = {
    "ImageInvert": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["IMAGE"]},
    "VAEDecode": {"input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}}, "output": ["IMAGE"]},
    "LoraLoader": {
        "input": {"required": {"model": ["MODEL"], "clip": ["CLIP"], "lora_name": [["a"]]}},
        "output": ["MODEL", "CLIP"],
    },
    "Grow": {"input": {"required": {"values": ["COMFY_AUTOGROW_V3", {}]}}, "output": []},
}


@pytest.fixture
def sdxl() -> Workflow:
    return Workflow.load(EXAMPLES / "sdxl_text_to_image.json")


def test_a_node_is_found_by_id_title_or_class(sdxl: Workflow) -> None:
    assert sdxl["3"] == sdxl["KSampler"]
    assert sdxl["Positive Prompt"].id == "6"
    assert sdxl["SaveImage"].id == "9"
    assert "Positive Prompt" in sdxl
    assert sdxl["6"] in sdxl
    assert "nobody" not in sdxl
    assert [node.id for node in sdxl.find(class_type="CLIPTextEncode")] == ["6", "7"]
    assert [node.id for node in sdxl.find(title="Negative Prompt")] == ["7"]
    assert len(sdxl) == len(list(sdxl)) == len(sdxl.find()) == 7


def test_an_ambiguous_name_names_the_candidates(sdxl: Workflow) -> None:
    with pytest.raises(WorkflowError, match=r"6 \(Positive Prompt, CLIPTextEncode\), 7 \(Negative Prompt"):
        sdxl["CLIPTextEncode"]
    with pytest.raises(WorkflowError, match="may mean 2 nodes"):
        sdxl.set("CLIPTextEncode.text", "x")


def test_wrong_names_suggest_the_nearest(sdxl: Workflow) -> None:
    for path, near in {"Positve Prompt.text": "Positive Prompt", "KSampler.sed": "seed"}.items():
        with pytest.raises(WorkflowError, match=f"Did you mean '{near}'"):
            sdxl.set(path, "x")
    with pytest.raises(WorkflowError, match=r"NODE\.INPUT"):
        sdxl.set("6", "x")
    with pytest.raises(WorkflowError, match="It has: text, clip"):
        sdxl.set("6.zzz", 1)


def test_set_takes_id_title_and_class_and_get_reads_it_back(sdxl: Workflow) -> None:
    sdxl.set("6.text", "a fox")
    sdxl.set("KSampler.seed", 42)
    sdxl.set("Negative Prompt.text", "")
    assert (sdxl.get("6.text"), sdxl.get("3.seed"), sdxl.get("7.text")) == ("a fox", 42, "")
    assert sdxl.get("3.nothing") is None


def test_an_input_that_the_file_leaves_out_is_set_where_it_is_declared_or_wanted() -> None:
    workflow = Workflow()
    workflow.add("Grow")
    with pytest.raises(WorkflowError, match="no input"):
        workflow.set("Grow.values.a", 1)
    workflow.set("Grow.values.a", 1, object_info=INFO)
    workflow.set("Grow.more", 2, new=True)
    assert dict(workflow["Grow"].inputs) == {"values.a": 1, "more": 2}


def test_dots_in_titles_and_in_input_names_are_understood() -> None:
    workflow = Workflow()
    workflow.add("A", title="v1.5 prompt").inputs["values.b"] = 1
    workflow.set("v1.5 prompt.values.b", 2)
    assert workflow["1"].inputs["values.b"] == 2


def test_a_workflow_is_built_connected_and_taken_apart() -> None:
    workflow = Workflow()
    loader = workflow.add("CheckpointLoaderSimple", ckpt_name="m.safetensors")
    decode = workflow.add("VAEDecode", title="Decode", vae=loader[2])
    save = workflow.add("SaveImage", id="save", images=decode[0])
    assert workflow.to_api()["2"] == {
        "class_type": "VAEDecode",
        "inputs": {"vae": ["1", 2]},
        "_meta": {"title": "Decode"},
    }
    workflow.disconnect(save, "images")
    assert "images" not in save.inputs
    workflow.connect("Decode", 0, save, "images")
    assert save.inputs["images"] == ["2", 0]
    decode.remove()
    assert list(workflow.to_api()) == ["1", "save"]
    assert dict(save.inputs) == {}
    with pytest.raises(WorkflowError, match="was removed"):
        _ = decode.inputs["vae"]
    with pytest.raises(WorkflowError, match="no link"):
        workflow.disconnect("save", "images")
    with pytest.raises(WorkflowError, match="taken"):
        workflow.add("SaveImage", id="save")
    assert workflow.add("X").id == "2"


def test_a_bypassed_node_hands_its_inputs_through_by_type() -> None:
    workflow = Workflow()
    loader = workflow.add("CheckpointLoaderSimple")
    lora = workflow.add("LoraLoader", model=loader[0], clip=loader[1], lora_name="a")
    sampler = workflow.add("KSampler", model=lora[0])
    encode = workflow.add("CLIPTextEncode", clip=lora[1])
    with pytest.raises(WorkflowError, match="object_info"):
        workflow.bypass(lora)
    workflow.bypass(lora, INFO)
    assert (sampler.inputs["model"], encode.inputs["clip"]) == (["1", 0], ["1", 1])
    assert lora not in workflow


def test_an_output_that_no_input_matches_is_dropped_by_a_bypass() -> None:
    workflow = Workflow()
    decode = workflow.add("VAEDecode", samples=Link("x", 0), vae=Link("y", 0))
    save = workflow.add("SaveImage", images=decode[0])
    workflow.bypass(decode, INFO)
    assert dict(save.inputs) == {}


def test_what_is_read_is_a_copy() -> None:
    workflow = Workflow()
    node = workflow.add("A", nested={"a": [1]})
    node.inputs["nested"]["a"].append(2)
    workflow.to_api()["1"]["inputs"]["nested"]["a"].append(3)
    assert node.inputs["nested"] == {"a": [1]}


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, {"a": b"bytes inside"}, [Path("x")]], ids=["object", "set", "bytes", "path"]
)
def test_what_json_cannot_carry_is_refused_where_it_is_put(value: object) -> None:
    workflow = Workflow()
    node = workflow.add("A")
    with pytest.raises(WorkflowError, match=r"node 1 \(A\), input 'x': cannot hold a"):
        node.inputs["x"] = value
    assert len(node.inputs) == 0


def test_a_whole_node_as_a_value_is_refused_with_how_to_connect_it() -> None:
    workflow = Workflow()
    node = workflow.add("A")
    with pytest.raises(WorkflowError, match="node\\[0\\]"):
        node.inputs["x"] = node


def test_titles_are_set_and_found() -> None:
    workflow = Workflow()
    node = workflow.add("A")
    assert node.title == "A"
    node.title = "Portrait"
    assert workflow["Portrait"] == node
    assert workflow.to_api()["1"]["_meta"] == {"title": "Portrait"}
    assert repr(node) == "<Node 1 (Portrait, A)>"


def test_inputs_are_a_mutable_mapping(sdxl: Workflow) -> None:
    inputs = sdxl["6"].inputs
    del inputs["text"]
    assert set(inputs) == {"clip"}
    with pytest.raises(KeyError):
        del inputs["text"]
    with pytest.raises(KeyError):
        inputs["text"]
    assert "clip" in inputs
    assert inputs.pop("clip") == ["4", 1]


# --- copies ---


def test_an_edit_of_a_copy_never_shows_in_the_original_nor_in_another_copy(sdxl: Workflow) -> None:
    one, two = sdxl.copy(), sdxl.copy()
    one.set("6.text", "one")
    two["6"].inputs["text"] = "two"
    two["9"].remove()
    one["3"].title = "Sampler"
    sdxl.set("6.text", "original")
    assert [w.get("6.text") for w in (sdxl, one, two)] == ["original", "one", "two"]
    assert "9" in sdxl
    assert sdxl["3"].title == "KSampler"


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
NODES = st.sampled_from(["3", "4", "5", "6", "7", "8", "9"])
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), NODES, st.sampled_from(["text", "seed", "steps", "new"]), VALUES),
        st.tuples(st.just("link"), NODES, st.just("x"), NODES),
        st.tuples(st.just("title"), NODES, st.just(""), st.text()),
        st.tuples(st.just("remove"), NODES, st.just(""), st.none()),
        st.tuples(st.just("delete"), NODES, st.just("text"), st.none()),
    ),
    max_size=12,
)


def apply(workflow: Workflow, edits: list[tuple[str, str, str, Any]]) -> None:
    for verb, node, name, value in edits:
        if node not in workflow:
            continue
        if verb == "set":
            workflow.set(f"{node}.{name}", value, new=True)
        elif verb == "link" and value in workflow:
            workflow.connect(value, 0, node, name)
        elif verb == "title":
            workflow[node].title = value
        elif verb == "remove":
            workflow[node].remove()
        elif verb == "delete":
            workflow[node].inputs.pop(name, None)


@given(EDITS, EDITS, EDITS)
def test_copies_are_islands_whatever_is_edited_in_whatever_order(a: Any, b: Any, c: Any) -> None:
    """Edit, copy, edit both: each equals a workflow that made the same edits alone, encoded or not."""
    path = EXAMPLES / "sdxl_text_to_image.json"
    first = Workflow.load(path)
    apply(first, a)
    first.encode()  # so that what is cached is put to the test, too
    second = first.copy()
    apply(second, b)
    second.encode()
    apply(first, c)
    for workflow, edits in ((first, [*a, *c]), (second, [*a, *b])):
        alone = Workflow.load(path)
        apply(alone, edits)
        assert workflow.to_api() == alone.to_api() == json.loads(workflow.encode())
        assert workflow.shape == alone.shape


@given(EDITS)
def test_edited_serialised_and_loaded_it_is_the_same_workflow(edits: Any) -> None:
    workflow = Workflow.load(EXAMPLES / "flux1_schnell_text_to_image.json")
    apply(workflow, edits)
    if len(workflow):
        assert Workflow.load(workflow.encode()).to_api() == workflow.to_api()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301  # our own
def test_pythons_own_ways_to_copy_make_copies_to_edit(
    sdxl: Workflow, how: Callable[[Workflow], Workflow]
) -> None:
    """After it was sent, too: what is kept for that neither stands in the way nor grows stale."""
    before = (sdxl.literal_seeds, sdxl.shape, sdxl.files(), sdxl.encode())
    twin = how(sdxl)
    twin.set("KSampler.seed", 7)
    twin.remove("SaveImage")
    assert twin.literal_seeds == {"3.seed": 7}
    assert "9" not in twin.shape
    assert (sdxl.literal_seeds, sdxl.shape, sdxl.files(), sdxl.encode()) == before


def test_a_copy_encodes_again_only_what_was_edited(sdxl: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    from async_comfy.workflow import record

    sdxl.encode()
    variant = sdxl.copy()
    variant.set("6.text", "other")
    encoded: list[Any] = []

    def encode(value: Any) -> bytes:
        encoded.append(value)
        return json.dumps(value).encode()

    monkeypatch.setattr(record, "json_of", encode)
    assert json.loads(variant.encode())["6"]["inputs"]["text"] == "other"
    assert encoded == ["6", variant.to_api()["6"]]


def test_ten_thousand_copies_share_all_nodes_that_they_do_not_edit() -> None:
    """10,000 variants of a 300 KB workflow take a small part of 10,000 times 300 KB."""
    import tracemalloc

    workflow = Workflow()
    for _ in range(100):
        workflow.add("CLIPTextEncode", text="x" * 3000)
    assert len(workflow.encode()) > 300_000
    tracemalloc.start()
    variants = []
    for seed in range(10_000):
        variant = workflow.copy()
        variant["1"].inputs["seed"] = seed
        variants.append(variant)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [v["1"].inputs["seed"] for v in variants] == list(range(10_000))
    assert size < 10_000 * 300_000 / 20


# --- shape ---


def test_the_shape_knows_classes_titles_steps_and_who_is_a_leaf(sdxl: Workflow) -> None:
    assert sdxl.shape["3"] == NodeShape("KSampler", "KSampler", 20, leaf=False)
    assert sdxl.shape["9"] == NodeShape("SaveImage", "Save Image", 1, leaf=True)


def test_copies_that_differ_in_values_share_their_shape(sdxl: Workflow) -> None:
    variant = sdxl.copy()
    variant.set("3.seed", 7)
    variant.set("6.text", "other")
    assert variant.shape is sdxl.shape
    variant.set("3.steps", 7)
    assert variant.shape["3"].steps == 7
    assert sdxl.shape["3"].steps == 20
    with pytest.raises(TypeError):
        variant.shape["3"] = sdxl.shape["3"]  # type: ignore[index]  # that it is read-only is the point


@pytest.mark.parametrize("steps", [["4", 0], True, 0, -3, "20", None])
def test_steps_that_are_no_count_weigh_one(sdxl: Workflow, steps: Any) -> None:
    sdxl.set("3.steps", steps)
    assert sdxl.shape["3"].steps == 1


# --- values and files on disk ---


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [
        ("42", None, 42),
        ("42", 7, 42),
        ("42", "old", "42"),
        ("true", None, True),
        ('"x"', None, "x"),
        ('["4", 0]', None, ["4", 0]),
        ("a red fox", None, "a red fox"),
        ("{broken", None, "{broken"),
        ("", None, ""),
        ("[" * 5000, None, "[" * 5000),
        ("\udcff", None, "\udcff"),
    ],
)
def test_what_was_typed_is_json_where_it_is_json_and_text_where_the_input_holds_text(
    text: str, like: Any, value: Any
) -> None:
    assert parse_value(text, like) == value


def test_saved_and_loaded_it_is_the_same(sdxl: Workflow, tmp_path: Path) -> None:
    sdxl.set("6.text", "žluťoučký \ud800")
    saved = sdxl.save(tmp_path / "out.json")
    assert Workflow.load(saved).to_api() == sdxl.to_api()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_left(sdxl: Workflow, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="cannot be written"):
        sdxl.save(tmp_path / "nowhere" / "out.json")
    (tmp_path / "out.json").mkdir()
    with pytest.raises(WorkflowError, match="cannot be written"):
        sdxl.save(tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


class Picture:
    """What a picture of Pillow can do, as far as it is looked at."""

    mode = "RGB"
    size = (4, 4)

    def save(self, target: Any) -> None: ...


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Path("cat.png"), "path"),
        (b"\x89PNG", "bytes"),
        (Picture(), "image"),
        (File("https://example.org/cat.png"), "url"),
        (File("cat.png"), "path"),
        ("https://example.org/cat.png", "url"),
    ],
    ids=["path", "bytes", "picture", "url file", "text file", "url"],
)
def test_a_file_waits_in_its_input_until_it_has_a_name_on_the_server(value: Any, kind: str) -> None:
    workflow = Workflow()
    node = workflow.add("LoadImage", image=value)
    [waiting] = workflow.files()
    assert (waiting.node, waiting.input, waiting.file.kind) == ("1", "image", kind)
    for send in (workflow.to_api, workflow.encode):
        with pytest.raises(WorkflowError, match=r"node 1 \(LoadImage\), input 'image'"):
            send()
    ready = {("1", "image"): "uploads/cat.png"}
    assert workflow.to_api(files=ready)["1"]["inputs"] == {"image": "uploads/cat.png"}
    assert json.loads(workflow.encode(files=ready))["1"]["inputs"] == {"image": "uploads/cat.png"}
    assert node.inputs["image"] == waiting.file


def test_text_is_a_file_only_where_it_is_a_url_and_the_node_loads_files() -> None:
    workflow = Workflow()
    workflow.add("LoadImage", image="cat.png")
    workflow.add("CLIPTextEncode", text="https://example.org/cat.png")
    assert workflow.files() == []


def test_a_files_repr_shows_no_secret_and_its_name_is_its_own() -> None:
    file = File("https://user:hunter2@example.org/a/cat.png?token=hunter2")
    assert "hunter2" not in repr(file)
    assert file.suggested_name == "cat.png"
    assert File(b"x").suggested_name is None
    assert File(b"x", name="a.png").suggested_name == "a.png"
    assert repr(File(b"xyz")) == "File(3 bytes)"
    with pytest.raises(WorkflowError, match="cannot be uploaded"):
        File(42)


# --- seeds ---


def test_every_seed_is_found_by_name_by_declaration_and_behind_a_link() -> None:
    workflow = Workflow()
    number = workflow.add("PrimitiveInt", value=5)
    workflow.add("PrimitiveInt", id="steps", value=20)
    workflow.add("KSampler", seed=1, steps=3)
    workflow.add("KSamplerAdvanced", noise_seed=number[0])
    workflow.add("Odd", chance=9, seed_behavior="fixed", seed=True)
    varied = ["INT", {"control_after_generate": True, "max": 10}]
    info = {
        "Odd": {"input": {"required": {"chance": varied}}},
        "PrimitiveInt": {"input": {"required": {"value": varied}}},
    }
    assert workflow.seeds() == {"2.seed": 1, "1.value": 5}
    assert workflow.seeds(info) == {"2.seed": 1, "1.value": 5, "4.chance": 9}


def test_a_seed_rule_is_applied_to_every_seed_of_a_copy() -> None:
    workflow = Workflow()
    workflow.add("KSampler", seed=1)
    workflow.add("RandomNoise", noise_seed=7)
    assert workflow.with_seed("fixed").seeds() == {"1.seed": 1, "2.noise_seed": 7}
    assert workflow.with_seed(42).seeds() == {"1.seed": 42, "2.noise_seed": 42}
    assert workflow.with_seed("+3").seeds() == {"1.seed": 4, "2.noise_seed": 10}
    drawn = random.Random(1).randrange(2**64)
    for rule in ("random", "per-job"):
        seeded = workflow.with_seed(rule, randomness=random.Random(1))
        assert seeded.seeds() == {"1.seed": drawn, "2.noise_seed": drawn}
    assert workflow.seeds() == {"1.seed": 1, "2.noise_seed": 7}
    assert workflow.with_seed("random").seeds() != workflow.with_seed("random").seeds()


@pytest.mark.parametrize("rule", ["never", "+x", "+" + "9" * 5000, "", 1.5, True])
def test_a_seed_rule_that_is_none_is_refused(rule: Any) -> None:
    workflow = Workflow()
    workflow.add("KSampler", seed=1)
    with pytest.raises(WorkflowError, match="is no seed"):
        workflow.with_seed(rule)


@given(st.integers(0, 2**64 - 1))
def test_a_drawn_seed_never_exceeds_what_the_input_takes(number: int) -> None:
    class Draw:
        def randrange(self, stop: int, /) -> int:
            return number % stop

    workflow = Workflow()
    workflow.add("Small", seed=0)
    workflow.add("Stranger", seed=0)
    workflow.add("KSampler", seed=0)
    info = {"Small": {"input": {"required": {"seed": ["INT", {"max": 65535}]}}}}
    seeds = workflow.with_seed("random", object_info=info, randomness=Draw()).seeds()
    assert seeds["1.seed"] <= 65535
    assert seeds["2.seed"] <= 2**31 - 1
    assert seeds["3.seed"] == number
    chosen = workflow.with_seed(number, object_info=info).seeds()
    assert chosen["1.seed"] <= 65535
    assert chosen["2.seed"] == number, "nobody said that it takes less"


def test_a_node_belongs_to_its_workflow() -> None:
    one, two = Workflow(), Workflow()
    node = one.add("A")
    two.add("A")
    assert node not in two
    assert node != two["1"]
    assert {node, one["1"]} == {Node(one, "1")}
