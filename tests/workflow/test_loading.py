"""`Workflow.load` takes what ComfyUI saved and says of everything else what it is."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.errors import WorkflowError
from async_comfy.workflow import Workflow

PROMPT: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 4, "latent_image": ["5", 0]}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64},
        "_meta": {"title": "Canvas"},
    },
}
UI: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def refusal(source: Any) -> str:
    with pytest.raises(WorkflowError) as caught:
        Workflow.load(source)
    return str(caught.value)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_load_and_come_back_as_they_are(example: Path) -> None:
    assert Workflow.load(example).to_api() == json.loads(example.read_text())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: p,
        lambda p: {"prompt": p, "client_id": "c"},
        lambda p: [3, "id", p, {}, ["3"]],
        lambda p: {"prompt": [3, "id", p, {}, ["3"]], "outputs": {}, "status": {}},
        lambda p: {"some-id": {"prompt": [3, "id", p, {}, ["3"]], "outputs": {}}},
        lambda p: {"id": "some-id", "status": "completed", "workflow": {"prompt": p, "extra_data": {}}},
        lambda p: {"prompt": json.dumps(p), "workflow": json.dumps(UI)},
    ],
    ids=["api", "post body", "queue item", "history entry", "history", "job", "comment of a video"],
)
def test_a_prompt_is_found_in_every_wrapping_of_the_server(wrap: Any) -> None:
    assert Workflow.load(json.dumps(wrap(PROMPT)).encode()).class_types == {"KSampler", "EmptyLatentImage"}


def test_the_editors_document_in_a_history_entry_is_kept() -> None:
    entry = [3, "id", PROMPT, {"extra_pnginfo": {"workflow": UI}}, ["3"]]
    workflow = Workflow.load({"prompt": entry})
    assert workflow.format == "api"
    assert workflow.ui == UI


def test_the_editors_format_says_that_it_cannot_run_as_it_is() -> None:
    workflow = Workflow.load(UI)
    assert workflow.format == "ui"
    for use in (workflow.to_api, workflow.encode, workflow.seeds, lambda: workflow["3"]):
        with pytest.raises(WorkflowError, match="Export \\(API\\)"):
            use()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"3": {"class_type"', "cut off"),
        (b'{"3": oops}', "line 1, column 7"),
        (b"<!DOCTYPE html><html>Bad Gateway", "web page"),
        (b"null", "JSON null"),
        (b"42", "JSON number"),
        (b'"hello"', "JSON text"),
        (b"[1, 2]", "JSON list"),
        (b"{}", "no nodes"),
        (b'{"a": 1}', "its keys: 'a'"),
        (b'{"KSampler": {"input": {}, "output": []}}', "object_info"),
        (b'{"error": {"type": "no_prompt"}, "node_errors": {}}', "error answer"),
        (b'{"queue_running": [], "queue_pending": []}', "queue"),
        (b'{"a": {"prompt": []}, "b": {"prompt": []}}', "history of 2 prompts"),
        (b'{"3": {"class_type": "A", "inputs": {}}, "4": null}', "node 4: not a node but JSON null"),
        (b'{"3": {"class_type": "A"}, "4": {"inputs": {}}}', "node 4: the node names no class_type"),
        (b'{"3": {"class_type": 7, "inputs": {}}}', "node 3: the node names no class_type"),
        (b'{"3": {"class_type": "A", "inputs": null}}', "node 3: its inputs are JSON null"),
        (b"[" * 10_000, "nested"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested"),
        (b'{"3": {"class_type": "A", "inputs": {"x": ' + b"[" * 300 + b"]" * 300 + b"}}}", "nested"),
        (b"[" + b"1," * 3_000_000 + b"1]", "values"),
        (b" " * (100 * 1024 * 1024 + 1), "100 MiB"),
        (b"\x00\x01\x02\xff\xfe", "neither JSON nor a picture"),
        (b'{"3": {"class_type": "A", "inputs": {"x": ' + b"9" * 5000 + b"}}}", "neither JSON nor"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_is_no_workflow_is_named_with_its_place(text: bytes, says: str) -> None:
    assert says in refusal(text)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "workflow_api.json").write_text(json.dumps(PROMPT))
    assert "workflow_api.json" in refusal(tmp_path / "worklfow_api.json")
    assert "no folder" in refusal(tmp_path / "nowhere" / "a.json")


def test_a_folder_is_not_a_workflow(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    path.write_text("{}")
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "cannot be read" in refusal("a\0b.json")
    assert "no workflow" in refusal(42)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_every_encoding_that_the_server_reads_is_read(encoding: str) -> None:
    assert Workflow.load(json.dumps(PROMPT).encode(encoding)).to_api() == Workflow.load(PROMPT).to_api()


def test_nan_and_lone_surrogates_survive_as_the_server_would_read_them() -> None:
    text = b'{"1": {"class_type": "A", "inputs": {"x": NaN, "y": -Infinity, "z": "\\ud800"}}}'
    sent = json.loads(Workflow.load(text).encode())["1"]["inputs"]
    assert sent["x"] != sent["x"]
    assert (sent["y"], sent["z"]) == (float("-inf"), "\ud800")


def test_of_duplicate_keys_the_last_one_counts_as_on_the_server() -> None:
    text = b'{"1": {"class_type": "A", "inputs": {"x": 1, "x": 2}}}'
    assert Workflow.load(text)["1"].inputs["x"] == 2


def test_json_text_and_numbers_as_keys_are_accepted() -> None:
    assert Workflow.load(json.dumps(PROMPT))["5"].title == "Canvas"
    assert Workflow.load({7: {"class_type": "A", "inputs": {}}})["7"].class_type == "A"  # type: ignore[dict-item]  # what users do


def test_the_callers_own_mapping_is_neither_changed_nor_watched() -> None:
    mine: dict[str, Any] = json.loads(json.dumps(PROMPT))
    workflow = Workflow.load(mine)
    workflow["3"].inputs["seed"] = 2
    mine["3"]["inputs"]["steps"] = 99
    assert mine["3"]["inputs"]["seed"] == 1
    assert workflow["3"].inputs["steps"] == 4


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["nodes", "links", "prompt", "workflow", "class_type", "inputs", "error"])
            | st.text(),
            inner,
        )
    ),
    max_leaves=20,
)


@given(anything)
def test_any_json_loads_or_gives_a_workflow_error(value: Any) -> None:
    with suppress(WorkflowError):
        Workflow.load(json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_any_bytes_load_or_give_a_workflow_error(data: bytes) -> None:
    with suppress(WorkflowError):
        Workflow.load(data)


@given(st.integers(0, len(json.dumps(PROMPT)) - 1))
def test_a_file_cut_off_anywhere_gives_a_workflow_error(cut: int) -> None:
    with pytest.raises(WorkflowError):
        Workflow.load(json.dumps(PROMPT)[:cut].encode())


def test_the_editors_document_is_not_passed_on_once_it_is_untrue() -> None:
    """A picture must not carry a workflow with other values than it was made with."""
    workflow = Workflow.load({"prompt": [3, "id", PROMPT, {"extra_pnginfo": {"workflow": UI}}, ["3"]]})
    edited = workflow.copy()
    edited.set("KSampler.seed", 43)
    assert edited.ui is None
    assert edited.copy().ui is None
    assert workflow.ui == UI
