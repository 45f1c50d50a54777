"""A workflow in the editor's format becomes one that runs, once the server's classes are known."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_comfy.errors import WorkflowError
from async_comfy.workflow import Workflow

INFO: dict[str, Any] = json.loads((Path(__file__).parent / "object_info.json").read_text())


def editors(**changes: Any) -> dict[str, Any]:
    """A picture saved, as the editor keeps it."""
    return {
        "version": 0.4,
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "inputs": [],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [3]}],
                "widgets_values": [64, 32, 1, 0],
            },
            {
                "id": 2,
                "type": "SaveImage",
                "title": "Keep",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 3}],
                "outputs": [],
                "widgets_values": ["x"],
            },
        ],
        "links": [[3, 1, 0, 2, 0, "IMAGE"]],
        **changes,
    }


def test_classes_and_nodes_come_out_and_the_document_is_kept() -> None:
    workflow = Workflow.load(editors())
    assert workflow.class_types == {"EmptyImage", "SaveImage"}
    resolved = workflow.resolve(INFO)
    assert (resolved.format, resolved.ui) == ("api", editors())
    assert resolved["Keep"].inputs["images"] == ["1", 0]
    assert resolved["1"].inputs["height"] == 32
    assert workflow.to_api(INFO) == resolved.to_api()
    assert resolved.resolve(INFO) is resolved


def test_it_is_checked_without_being_resolved_first() -> None:
    workflow = Workflow.load(editors())
    assert [f.kind for f in workflow.check(INFO)] == []
    unknown = {name: INFO[name] for name in INFO if name != "EmptyImage"}
    assert [f.kind for f in workflow.check(unknown) if f.severity == "error"] == ["missing_node_type"]


def test_a_copy_of_it_is_still_in_the_editors_format() -> None:
    assert Workflow.load(editors()).copy().format == "ui"
    assert Workflow.load(editors()).with_seed("fixed").format == "ui"


@pytest.mark.parametrize("broken", [{"nodes": [1]}, {"nodes": [{"id": []}]}, {"links": 3}, {"links": [[1]]}])
def test_a_damaged_one_gives_a_workflow_error_or_what_is_left_of_it(broken: dict[str, Any]) -> None:
    workflow = Workflow.load(editors(**broken))
    try:
        workflow.resolve(INFO)
    except WorkflowError as error:
        assert error.place  # noqa: PT017 - some damage is mended as the editor mends it
