"""Workflows written in Python: a call for each node, and outputs that know their type.

``async-comfy nodes --stubs DIR`` writes a function for each node class of a server, made of these names.
"""

from async_comfy.workflow.authoring.drafts import (
    DEFAULT,
    OMITTED,
    Json,
    NewNode,
    Socket,
    Upload,
    grown,
    untyped,
)

__all__ = ["DEFAULT", "OMITTED", "Json", "NewNode", "Socket", "Upload", "grown", "untyped"]
