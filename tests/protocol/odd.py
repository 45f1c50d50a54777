"""Strategies: JSON as a server may send it, reasonable or not."""

from typing import Any

from hypothesis import strategies as st

NAMES = ("prompt_id", "node", "nodes", "value", "max", "output", "status", "exec_info", "sid", "executed")


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects, their keys often those that mean something."""
    return st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), inner, max_size=6)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=8)
ids = st.uuids().map(str) | st.text(max_size=40)
