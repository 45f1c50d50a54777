"""What a bypassed node hands through."""

from collections.abc import Mapping
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.declarations import inputs_of, outputs_of
from async_comfy.workflow.values import Link, is_link


def through(
    class_type: str, inputs: Mapping[str, Any], object_info: Mapping[str, Any] | None, place: str
) -> dict[int, Link]:
    """Per output slot the link to use instead: that of an input of the same type, the same position first.

    Raises: `WorkflowError` where the class's declaration is missing.
    """
    outputs = outputs_of(object_info, class_type)
    if not outputs:
        raise WorkflowError(
            f"cannot be bypassed without knowing the types of {class_type}.",
            place=place,
            hint="Give the server's object_info, or remove the node and connect its neighbours.",
        )
    given = [
        (declared.type, Link(*inputs[name]) if is_link(inputs.get(name)) else None)
        for name, declared in inputs_of(object_info, class_type).items()
    ]
    chosen = {slot: _match(slot, kind, given) for slot, kind in enumerate(outputs)}
    return {slot: link for slot, link in chosen.items() if link is not None}


def _match(slot: int, kind: str, given: list[tuple[str, Link | None]]) -> Link | None:
    in_order = given[slot : slot + 1] + given
    return next((link for type_, link in in_order if link is not None and type_ == kind), None)
