"""The editor's format becomes the prompt that the editor itself would send.

`conversion/rules` holds one small file for each rule, with the prompt that the rule demands;
`conversion/expected.json.gz` what the real editor made of official templates.
"""

import gzip
import json
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert import classes_needed, to_api

DATA = Path(__file__).parent / "conversion"
RULES = sorted(path.stem for path in (DATA / "rules").glob("*.json"))
CLASSES: dict[str, Any] = json.loads((DATA / "classes.json").read_text())


def rule(name: str) -> dict[str, Any]:
    """A rule, read anew: {"rule": what it says, "ui": a file, "api": the prompt that it demands}."""
    return json.loads((DATA / "rules" / f"{name}.json").read_text())  # type: ignore[no-any-return]  # our own file


def refusal(ui: Any, classes: dict[str, Any] = CLASSES) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        to_api(ui, classes)
    return caught.value


def workflow(*nodes: dict[str, Any], links: Any = (), subgraphs: Any = ()) -> dict[str, Any]:
    definitions = {"subgraphs": list(subgraphs)}
    return {"version": 0.4, "nodes": list(nodes), "links": list(links), "definitions": definitions}


def node(number: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "mode": 0, **more}


def image_input(link: int | None) -> list[dict[str, Any]]:
    return [{"name": "image", "type": "IMAGE", "link": link}]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_the_editor_holds(name: str) -> None:
    found = rule(name)
    assert to_api(found["ui"], CLASSES) == found["api"], found["rule"]


@pytest.mark.parametrize("name", RULES)
def test_a_conversion_changes_nothing_that_it_is_given(name: str) -> None:
    ui, classes = rule(name)["ui"], deepcopy(CLASSES)
    to_api(ui, classes)
    assert ui == rule(name)["ui"]
    assert classes == CLASSES


@pytest.mark.parametrize("name", RULES)
def test_the_classes_needed_are_enough(name: str) -> None:
    ui = rule(name)["ui"]
    needed = classes_needed(ui) & CLASSES.keys()
    assert to_api(ui, {kind: CLASSES[kind] for kind in needed}) == rule(name)["api"]


def test_classes_needed_looks_into_subgraphs_and_leaves_out_what_only_the_editor_has() -> None:
    assert classes_needed(rule("nested")["ui"]) == {"LoadImage", "SaveImage", "Blur"}
    assert classes_needed(rule("reroutes")["ui"]) == {"LoadImage", "SaveImage", "Blur"}
    assert classes_needed(rule("notes")["ui"]) == {"Number"}
    assert classes_needed(rule("group_node")["ui"]) == {
        "Loader",
        "LoadImage",
        "Any",
        "SaveImage",
        "Noise",
        "Sampler",
        "Blur",
    }


def test_all_official_templates_become_what_the_editor_makes_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = pytest.importorskip(
        "comfyui_workflow_templates_json", reason="a package of requirements-dev.txt"
    )
    templates = resources.files(package) / "templates"
    expected = json.loads(gzip.decompress((DATA / "expected.json.gz").read_bytes()))
    classes = json.loads(gzip.decompress((DATA / "object_info.json.gz").read_bytes()))
    wrong = [
        name
        for name, prompt in expected.items()
        if to_api(json.loads((templates / name).read_text(encoding="utf-8")), classes) != prompt
    ]
    with capsys.disabled():
        print(f"\nofficial templates converted exactly: {len(expected) - len(wrong)} of {len(expected)}")
    assert len(expected) == 249
    assert not wrong


@pytest.mark.parametrize("key", ["cnr_id", "aux_id"])
def test_an_unknown_class_is_refused_by_node_title_class_and_pack(key: str) -> None:
    ui = workflow(node(7, "FancyBlur", title="My blur", properties={key: "fancy/pack"}))
    error = refusal(ui)
    assert error.place == "node 7 (My blur)"
    assert "'FancyBlur'" in error.message
    assert "'fancy/pack'" in error.message
    assert "strict=False" in error.hint


def test_an_unknown_class_inside_a_subgraph_is_named_by_the_ids_on_the_way() -> None:
    inner = {"id": "s", "name": "Inner", "nodes": [node(5, "FancyBlur")], "links": []}
    assert refusal(workflow(node(2, "s"), subgraphs=[inner])).place == "node 2:5 (FancyBlur)"


def test_not_strict_sends_what_the_file_says_of_an_unknown_class() -> None:
    seed = {"name": "seed", "type": "INT", "link": None, "widget": {"name": "seed"}}
    mode = {"name": "mode", "type": "COMBO", "link": None, "widget": {"name": "mode"}}
    ui = workflow(
        node(1, "LoadImage", widgets_values=["cat.png"], outputs=[{"type": "IMAGE", "links": [1]}]),
        node(2, "Fancy", inputs=[*image_input(1), seed, mode], widgets_values=[3, "fixed", "soft"]),
        node(3, "Other", widgets_values_named={"a": 1, "b": [1, 2]}),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )
    prompt = to_api(ui, CLASSES, strict=False)
    assert prompt["2"]["inputs"] == {"image": ["1", 0], "seed": 3, "mode": "soft"}
    assert prompt["3"]["inputs"] == {"a": 1, "b": {"__value__": [1, 2]}}
    assert prompt["2"]["class_type"] == "Fancy"


def test_a_value_that_only_a_running_editor_knows_is_refused_unless_a_link_gives_it() -> None:
    photo = node(1, "Photo", widgets_values=[""])
    assert "camera" in refusal(workflow(photo)).message
    assert to_api(workflow(photo), CLASSES, strict=False)["1"]["inputs"] == {}
    linked = {"inputs": [{"name": "image", "type": "WEBCAM", "link": 1, "widget": {"name": "image"}}]}
    source = node(2, "LoadImage", outputs=[{"type": "IMAGE", "links": [1]}])
    ui = workflow(photo | linked, source, links=[[1, 2, 0, 1, 0, "IMAGE"]])
    assert to_api(ui, CLASSES)["1"]["inputs"] == {"image": ["2", 0]}


def test_a_node_that_feeds_others_without_links_is_refused() -> None:
    classes = CLASSES | {"Anything Everywhere": {"input": {}, "output": []}}
    assert refusal(workflow(node(4, "Anything Everywhere")), classes).place == "node 4 (Anything Everywhere)"


def test_what_a_server_says_of_a_class_may_be_nonsense() -> None:
    error = refusal(workflow(node(1, "Number")), {"Number": None})
    assert "'Number'" in error.message
    classes = {"Number": {"input": {"required": {"value": 5}}, "output": 7, "input_order": [1]}}
    assert to_api(workflow(node(1, "Number")), classes)["1"]["inputs"] == {}


@pytest.mark.parametrize(
    ("ui", "place"),
    [
        ([], "the workflow"),
        ({}, "the workflow"),
        ({"nodes": "many"}, "the workflow, nodes"),
        ({"nodes": [1]}, "the workflow, nodes[0]"),
        (workflow({"type": "Number"}), "the workflow, nodes[0].id"),
        (workflow({"id": 3}), "the workflow, node 3, type"),
        (workflow(node(3, "Number"), node(3, "Number")), "node 3 (Number)"),
        (workflow(node(3, "Number", inputs={"a": 1})), "node 3 (Number), inputs"),
        (workflow(node(3, "Number", inputs=[{}])), "node 3 (Number), inputs[0].name"),
        (workflow(node(3, "Number", inputs=[{"name": "a", "link": "b"}])), "node 3 (Number), inputs[0].link"),
        (workflow(node(3, "Number", widgets_values=5)), "node 3 (Number), widgets_values"),
        (workflow(node(3, "Number"), links=[[1, 2]]), "the workflow, links[0]"),
        (workflow(node(3, "Number"), links=[[1, None, 0, 3, 0, "X"]]), "the workflow, links[0]"),
        (workflow(subgraphs=[7]), "definitions.subgraphs[0]"),
        (workflow(subgraphs=[{"id": "s", "name": "S", "nodes": [{}]}]), "subgraph 'S', nodes[0].id"),
        (workflow(node(3, "Blur", inputs=image_input(9))), "node 3 (Blur)"),
        (workflow(node(3, "Blur", inputs=image_input(9)), links=[[9, 8, 0, 3, 0, "IMAGE"]]), "node 3 (Blur)"),
        (workflow(node(3, "Blur", inputs=[{"name": "n"}] * 1001)), "node 3 (Blur), inputs"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(ui: Any, place: str) -> None:
    error = refusal(ui)
    assert error.place.startswith(place)
    assert str(error).startswith(error.place)


def test_a_circle_of_links_through_reroutes_is_refused() -> None:
    def reroute(number: int, link: int, out: int) -> dict[str, Any]:
        return node(number, "Reroute", inputs=image_input(link), outputs=[{"type": "*", "links": [out]}])

    ui = workflow(
        reroute(1, 2, 1),
        reroute(2, 1, 2),
        node(3, "Blur", inputs=image_input(3)),
        links=[[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 1, 0, 3, 0, "*"]],
    )
    error = refusal(ui)
    assert error.place == "node 3 (Blur)"
    assert "circle" in error.message


def test_a_getter_without_its_setter_is_refused() -> None:
    ui = workflow(
        node(1, "GetNode", widgets_values=["picture"], outputs=[{"type": "IMAGE", "links": [1]}]),
        node(2, "Blur", inputs=image_input(1)),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )
    assert "'picture'" in refusal(ui).message
    assert to_api(ui, CLASSES, strict=False)["2"]["inputs"] == {"radius": 1}


def test_a_prompt_shares_nothing_with_the_file() -> None:
    curve = {"points": [[0, 0], [1, 1]], "interpolation": "linear"}
    prompt = to_api(workflow(node(1, "Curve", widgets_values=[curve])), CLASSES)
    prompt["1"]["inputs"]["curve"]["points"].clear()
    assert curve["points"] == [[0, 0], [1, 1]]


def test_a_value_nested_beyond_reason_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"deeper": deep}
    error = refusal(workflow(node(1, "Curve", widgets_values=[deep])))
    assert error.place == "node 1 (Curve)"
    while deep:  # or the interpreter would go as deep to take it apart
        deep = deep.pop("deeper")


def test_subgraphs_that_contain_themselves_are_refused() -> None:
    first = {"id": "a", "name": "A", "nodes": [node(1, "b")], "links": []}
    second = {"id": "b", "name": "B", "nodes": [node(2, "a")], "links": []}
    error = refusal(workflow(node(3, "a"), subgraphs=[first, second]))
    assert error.place in ("subgraph 'A'", "subgraph 'B'")
    assert "itself" in error.message


def test_a_long_chain_of_reroutes_is_followed_to_its_end() -> None:
    length = 20_000
    chain = [
        node(n, "Reroute", inputs=image_input(n - 1), outputs=[{"type": "*", "links": [n]}])
        for n in range(2, length)
    ]
    ui = workflow(
        node(1, "LoadImage", outputs=[{"type": "IMAGE", "links": [1]}]),
        *chain,
        node(length, "Blur", inputs=image_input(length - 1)),
        links=[[n, n, 0, n + 1, 0, "IMAGE"] for n in range(1, length)],
    )
    assert to_api(ui, CLASSES)[str(length)]["inputs"]["image"] == ["1", 0]


@pytest.mark.parametrize(("levels", "width", "said"), [(200, 1, "deep"), (40, 2, "100000 nodes")])
def test_subgraphs_that_grow_beyond_reason_are_refused(levels: int, width: int, said: str) -> None:
    subgraphs = [
        {
            "id": f"s{level}",
            "nodes": [node(level * 10 + n, f"s{level - 1}") for n in range(width)],
            "links": [],
        }
        for level in range(1, levels)
    ]
    subgraphs.append({"id": "s0", "nodes": [], "links": []})
    assert said in refusal(workflow(node(1, f"s{levels - 1}"), subgraphs=subgraphs)).message


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, inner in items for deeper in paths(inner, (*path, key)))]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def break_something(data: st.DataObject, value: Any) -> None:
    """Puts junk in one to three places of a JSON value."""
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(paths(value)[1:]))
        holder = value
        for key in way:
            holder = holder[key]
        holder[last] = data.draw(JUNK | st.sampled_from([-10, -20, "-10", 0, 1, 10**30]))


@settings(max_examples=400, deadline=None)
@given(st.data(), st.booleans())
def test_whatever_is_broken_in_a_file_or_a_server_it_converts_or_is_refused(
    data: st.DataObject, server: bool
) -> None:
    ui = rule(data.draw(st.sampled_from(RULES)))["ui"]
    known = {name: deepcopy(CLASSES[name]) for name in sorted(classes_needed(ui) & CLASSES.keys())}
    break_something(data, known if server else ui)
    for strict in (True, False):
        try:
            prompt = to_api(ui, known, strict=strict)
            classes_needed(ui)
        except WorkflowError as error:
            placed = bool(error.place)
        else:
            placed = all(node.keys() == {"inputs", "class_type", "_meta"} for node in prompt.values())
        assert placed
