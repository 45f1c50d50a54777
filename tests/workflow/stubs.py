"""Modules of stubs, written and imported for a test."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import pytest

from async_comfy import Workflow
from async_comfy.workflow.authoring.stubs import MODULE, module


def imported(object_info: Mapping[str, Any], name: str = MODULE) -> ModuleType:
    """The module of stubs of these classes, as `import` would give it."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    exec(compile(module(object_info), f"{name}.py", "exec"), made.__dict__)  # noqa: S102 - what is tested
    return made


def functions(made: ModuleType) -> list[FunctionType]:
    """Those of the node classes, in the order of the classes."""
    found = [value for value in vars(made).values() if isinstance(value, FunctionType)]
    return [function for function in found if function.__module__ == made.__name__]


@contextmanager
def importable(object_info: Mapping[str, Any]) -> Iterator[ModuleType]:
    """`import comfy_nodes` gives these stubs."""
    with pytest.MonkeyPatch.context() as patch:
        made = imported(object_info)
        patch.setitem(sys.modules, MODULE, made)
        yield made


def ran(source: str) -> Workflow:
    """What a program binds `workflow` to."""
    names: dict[str, Any] = {}
    exec(compile(source, "program.py", "exec"), names)  # noqa: S102 - what is tested
    workflow = names["workflow"]
    assert isinstance(workflow, Workflow)
    return workflow
