"""What to run: load any file, edit it by name, check it before sending."""

from async_comfy.workflow.check import Finding
from async_comfy.workflow.files import File, FileInput
from async_comfy.workflow.graph import Inputs, Node, ObjectInfo, Workflow
from async_comfy.workflow.parameters import Parameter, Parameters
from async_comfy.workflow.seeds import SeedRule
from async_comfy.workflow.shape import NodeShape
from async_comfy.workflow.values import Link, parse_value

__all__ = [
    "File",
    "FileInput",
    "Finding",
    "Inputs",
    "Link",
    "Node",
    "NodeShape",
    "ObjectInfo",
    "Parameter",
    "Parameters",
    "SeedRule",
    "Workflow",
    "parse_value",
]
