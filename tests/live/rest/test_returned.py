"""Whatever a call gives can be imported, to write its type down."""

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import async_comfy
from async_comfy import Session
from tests.live.rest.test_table import GROUPS


def classes(hint: Any) -> Iterator[type]:
    """Our own classes in a type, and in the fields of those."""
    for part in typing.get_args(hint):
        yield from classes(part)
    if not isinstance(hint, type) or not hint.__module__.startswith("async_comfy"):
        return
    yield hint
    record = dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct | tuple)
    fields = typing.get_type_hints(hint) if record else {}
    for name, field in fields.items():
        if not name.startswith("_"):
            yield from classes(field)


def test_the_search_goes_into_lists_choices_and_fields() -> None:
    assert {found.__name__ for found in classes(list[async_comfy.AssetPage | None])} == {"AssetPage", "Asset"}


@pytest.mark.parametrize("group", GROUPS.split())
def test_what_a_call_gives_is_a_public_name(group: str) -> None:
    """All the way down: the items of a page, too."""
    hidden = set()
    for name, method in inspect.getmembers(
        type(getattr(Session("http://127.0.0.1:1"), group)), inspect.isfunction
    ):
        if not name.startswith("_"):
            found = classes(typing.get_type_hints(method)["return"])
            hidden |= {one.__name__ for one in found if getattr(async_comfy, one.__name__, None) is not one}
    assert hidden - {"FileSource"} == set()  # the protocol that a server's files keep to
