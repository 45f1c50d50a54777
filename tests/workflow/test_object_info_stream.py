"""Node declarations split while they come: cut anywhere, the same as read at once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.workflow.object_info_stream import Splitter

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), values, max_size=5)
cuts = st.lists(st.integers(0, 400), max_size=8)


def split(raw: bytes, at: list[int]) -> dict[str, Any]:
    splitter = Splitter()
    marks = sorted(min(mark, len(raw)) for mark in at)
    found: dict[str, Any] = {}
    for begin, end in zip([0, *marks], [*marks, len(raw)], strict=True):
        found.update(splitter.take(raw[begin:end]))
    splitter.end()
    return found


@given(objects, st.sampled_from([None, 1]), st.booleans(), cuts)
def test_cut_anywhere_it_is_what_json_reads_at_once(
    said: dict[str, Any], indent: int | None, plain: bool, at: list[int]
) -> None:
    raw = json.dumps(said, indent=indent, ensure_ascii=plain).encode(errors="surrogatepass")
    if not plain:
        try:
            raw.decode()
        except UnicodeDecodeError:
            return  # lone surrogates: a server escapes them
    assert split(raw, at) == json.loads(raw)


@given(objects.filter(bool), st.integers(1, 400), cuts)
def test_an_object_that_ends_in_the_middle_is_told(said: dict[str, Any], less: int, at: list[int]) -> None:
    raw = json.dumps(said).encode()
    with pytest.raises(ValueError, match=r"object|utf-8"):
        split(raw[: max(len(raw) - less, 0)], at)


@pytest.mark.parametrize("raw", [b"[1]", b"<html>", b"", b"nonsense", b'{"a" 1}', b'{"a": 1} more'])
def test_what_is_no_object_is_told(raw: bytes) -> None:
    with pytest.raises(ValueError, match="object"):
        split(raw, [])
