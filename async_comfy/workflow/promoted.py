"""What the author of a workflow put forward in the editor: widgets of subgraphs, and the inputs of app mode.

The editor's document is read with tolerance here: what does not fit together is left out, for a parameter
less is no failure (its conversion, elsewhere, is strict).
"""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 20  # subgraphs within subgraphs; also ends a subgraph that holds itself

Labels = dict[str, str]
"""Where (``88:6.text``) to what the author calls it."""


def promoted(ui: Mapping[str, Any]) -> Labels:
    """The inputs inside of subgraphs that their author shows outside."""
    author = _Author(ui)
    return {
        path: label
        for node in _items(ui, "nodes")
        for name, label in author.shown(node).items()
        for path in author.paths(node, name, str(node.get("id")))
    }


def chosen(ui: Mapping[str, Any]) -> Labels:
    """The inputs that the author offers in app mode, in that order."""
    author = _Author(ui)
    nodes = {str(node.get("id")): node for node in _items(ui, "nodes")}
    found: Labels = {}
    for entry in _pairs(_mapping(_mapping(ui.get("extra")).get("linearData")).get("inputs")):
        id_, name = str(entry[0]), str(entry[1])
        node = nodes.get(id_, {})
        label = author.shown(node).get(name, name)
        found.update(dict.fromkeys(author.paths(node, name, id_) or [f"{id_}.{name}"], label))
    return found


class _Author:
    """Who knows which node stands for which subgraph."""

    def __init__(self, ui: Mapping[str, Any]) -> None:
        subgraphs = _items(_mapping(ui.get("definitions")), "subgraphs")
        self._subgraphs = {str(graph.get("id")): graph for graph in subgraphs}

    def shown(self, node: Mapping[str, Any]) -> Labels:
        """The names that a node shows of the subgraph it stands for, each with its label; else nothing."""
        inside = self._subgraphs.get(str(node.get("type")))
        if inside is None:
            return {}
        labels = {str(entry[1]): str(entry[1]) for entry in _pairs(_proxies(node))}
        for entry in (*_items(inside, "inputs"), *_items(node, "inputs")):
            name = str(entry.get("name"))
            labels[name] = str(entry.get("label") or labels.get(name) or name)
        return labels

    def paths(self, node: Mapping[str, Any], name: str, prefix: str, depth: int = 0) -> list[str]:
        """Where in the prompt the value that a node shows as `name` ends up."""
        inside = self._subgraphs.get(str(node.get("type")))
        if inside is None or depth > MAX_DEPTH:
            return []
        found: list[str] = []
        for target, widget in (*_linked(inside, name), *_listed(node, name)):
            for inner in _items(inside, "nodes"):
                if str(inner.get("id")) == target:
                    where = f"{prefix}:{target}"
                    found += self.paths(inner, widget, where, depth + 1) or [f"{where}.{widget}"]
        return found


def _linked(inside: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """The inner node and input that a subgraph's input leads to."""
    entries = [entry for entry in _items(inside, "inputs") if entry.get("name") == name]
    wanted = {str(link) for entry in entries for link in _list(entry.get("linkIds"))}
    inputs = {str(node.get("id")): _items(node, "inputs") for node in _items(inside, "nodes")}
    for link, target, slot in map(_link, _list(inside.get("links"))):
        slots = inputs.get(target, [])
        if link in wanted and isinstance(slot, int) and 0 <= slot < len(slots):
            yield target, str(_mapping(slots[slot].get("widget")).get("name") or slots[slot].get("name"))


def _listed(node: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """The same in older files, which list pairs of inner node and widget."""
    return ((str(entry[0]), name) for entry in _pairs(_proxies(node)) if entry[1] == name)


def _proxies(node: Mapping[str, Any]) -> Any:
    return _mapping(node.get("properties")).get("proxyWidgets")


def _link(link: Any) -> tuple[str, str, Any]:
    """The id, the target node and its input number: links are lists in old files, objects in new ones."""
    if isinstance(link, Mapping):
        return str(link.get("id")), str(link.get("target_id")), link.get("target_slot")
    if isinstance(link, list) and len(link) >= 5:
        return str(link[0]), str(link[3]), link[4]
    return "", "", None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _items(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [item for item in _list(holder.get(key)) if isinstance(item, Mapping)]


def _pairs(value: Any) -> Iterator[list[Any]]:
    return (entry for entry in _list(value) if isinstance(entry, list) and len(entry) >= 2)
