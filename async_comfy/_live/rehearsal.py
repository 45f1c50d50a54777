"""A workflow run for what it loads, not for what it makes."""

from async_comfy.workflow import Workflow


def rehearsal(workflow: Workflow) -> Workflow:
    """The same with one step, and its pictures shown instead of saved: it loads what the workflow loads.

    Nodes that save anything but pictures are left as they are: without them nothing would run.
    """
    if workflow.format != "api":
        return workflow
    short = workflow.copy()
    for node in list(short):
        if isinstance(node.inputs.get("steps"), int):
            node.inputs["steps"] = 1
        images = node.inputs.get("images")
        if node.class_type.startswith("Save") and isinstance(images, list):
            short.remove(node)
            short.add("PreviewImage", images=images)
    return short
