"""A workflow run for what it loads, not for what it makes."""

from async_comfy.workflow import Workflow

_SHORT = {"steps": 1, "start_at_step": 0, "end_at_step": 1}
"""One step at each sampler: one that begins later than it ends samples nothing, and loads nothing for it."""


def rehearsal(workflow: Workflow) -> Workflow:
    """The same with one step, and its pictures shown instead of saved: it loads what the workflow loads.

    Nodes that save anything but pictures are left as they are: without them nothing would run.
    """
    if workflow.format != "api":
        return workflow
    short = workflow.copy()
    for node in list(short):
        for name, value in _SHORT.items():
            if isinstance(node.inputs.get(name), int):
                node.inputs[name] = value
        images = node.inputs.get("images")
        if node.class_type.startswith("Save") and isinstance(images, list):
            short.remove(node)
            short.add("PreviewImage", images=images)
    return short
