"""From the file that the editor saves to the prompt that a server takes, as the editor itself converts it."""

from collections.abc import Mapping
from typing import Any

from async_comfy.workflow.convert.groups import group_of, members
from async_comfy.workflow.convert.loading import Editor
from async_comfy.workflow.convert.nodes import FRONTEND_ONLY
from async_comfy.workflow.convert.primitives import apply_primitives
from async_comfy.workflow.convert.prompts import prompt_of
from async_comfy.workflow.convert.records import read
from async_comfy.workflow.convert.texts import replacer

__all__ = ["classes_needed", "to_api"]


def to_api(
    ui: Mapping[str, Any], object_info: Mapping[str, Any], *, strict: bool = True
) -> dict[str, dict[str, Any]]:
    """The API-format prompt of a UI-format workflow: {node id: {inputs, class_type, _meta}}.

    `object_info` is what the server says of its classes; those of `classes_needed` suffice. Nothing given
    is changed. `strict=False` makes the best of what cannot be converted with certainty.

    Raises: `WorkflowError` naming the place where the file is broken; if `strict`, also for a node whose
    class the server has not (with its custom node pack, if the file says so) and for a value that only a
    running editor knows.
    """
    editor = Editor(object_info)
    root = editor.open(read(ui))
    graphs = [root, *editor.graphs.values()]
    apply_primitives(graphs, replacer(node for graph in graphs for node in graph.nodes.values()))
    return prompt_of(root, graphs, strict=strict)


def classes_needed(ui: Mapping[str, Any]) -> frozenset[str]:
    """The node classes whose `object_info` a conversion needs, those inside subgraphs included.

    Raises: `WorkflowError` as `to_api` does for a broken file.
    """
    file = read(ui)
    used = {node.type for graph in file.graphs() for node in graph.nodes}
    for node in file.root.nodes:
        if (name := group_of(file, node)) is not None:
            used.discard(node.type)
            used |= {kind for member in members(file, name) if isinstance(kind := member.get("type"), str)}
    return frozenset(used - FRONTEND_ONLY - file.definitions.keys())
