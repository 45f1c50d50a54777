"""What a server says against a prompt before it runs it (ComfyUI execution.py, validate_prompt)."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from async_comfy.testing.catalog import Catalog
from async_comfy.testing.nodes.node import Node
from async_comfy.testing.profiles import Profile

LONG_LIST = 20  # longer lists of choices are not repeated in an error
ANYTHING = ["*", {}]  # how an input counts as declared that only comes to be when it is used
CONVERT: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def complaint(kind: str, message: str, details: str = "", **extra: Any) -> dict[str, Any]:
    """One error, of a node or of the prompt."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


@dataclass
class Verdict:
    """What came of it: `error` of the prompt as a whole or None, the outputs that can run, errors by node."""

    error: dict[str, Any] | None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)


def judge(prompt: dict[str, Any], catalog: Catalog, profile: Profile, targets: list[str] | None) -> Verdict:
    """Checks a prompt. Values are converted in place: "16" becomes 16 where an INT is declared.

    `targets`: the only outputs wanted, or None for all. Whatever is not a prompt at all raises what the
    real server raises (it answers 500 then).
    """
    for node in prompt.values():
        dict(node.get("inputs", {}))  # inputs that are no mapping fall over here, before any check: 500
    for node_id, node in prompt.items():
        if (error := _class_error(node_id, node, catalog, profile)) is not None:
            return Verdict(error)
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if catalog[node["class_type"]].output_node and (targets is None or node_id in targets)
    ]
    if not outputs:
        return Verdict(complaint("prompt_no_outputs", "Prompt has no outputs"))
    return _Inspection(prompt, catalog, profile).verdict(outputs)


def _class_error(node_id: str, node: Any, catalog: Catalog, profile: Profile) -> dict[str, Any] | None:
    where = f"Node ID '#{node_id}'"
    if "class_type" in node and node["class_type"] in catalog:
        return None
    name = node.get("class_type")
    if not profile.missing_node_type:
        missing = (
            "a node is missing the class_type property." if name is None else f"node {name} does not exist."
        )
        return complaint("invalid_prompt", f"Cannot execute because {missing}", where)
    title = (node.get("_meta") or {}).get("title") or name
    message = f"Node '{title}' not found. The custom node may not be installed."
    if name is None:
        nameless = f"Node 'ID #{node_id}' has no class_type."
        message = f"{nameless} The workflow may be corrupted or a custom node is missing."
    return complaint("missing_node_type", message, where, node_id=node_id, class_type=name, node_title=title)


class _Inspection:
    """The walk from the outputs up, each node looked at once."""

    def __init__(self, prompt: Mapping[str, Any], catalog: Catalog, profile: Profile) -> None:
        self.profile = profile
        self.prompt = prompt
        self.catalog = catalog
        self.errors: dict[str, list[dict[str, Any]]] = {}
        self.sound: dict[str, bool] = {}
        self.path: list[str] = []

    def verdict(self, outputs: list[str]) -> Verdict:
        good, bad = [], []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            self.path = []
            try:
                fine = self._node(output)
            except Exception as error:  # noqa: BLE001 - what goes wrong here is told to the client, as on the real server
                fine = False
                self._blame(
                    output, _exception("exception_during_validation", "Exception when validating node", error)
                )
            if fine:
                good.append(output)
                continue
            bad.append(output)
            for node_id, errors in self.errors.items():
                told = {
                    "errors": errors,
                    "dependent_outputs": [],
                    "class_type": self.prompt[node_id]["class_type"],
                }
                node_errors.setdefault(node_id, told)["dependent_outputs"].append(output)
        if good:
            return Verdict(None, good, node_errors)
        details = "\n".join(
            f"{e['message']}: {e['details']}" for out in bad for e in self.errors.get(out, [])
        )
        summary = complaint("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
        return Verdict(summary, [], node_errors)

    def _node(self, node_id: str) -> bool:
        if node_id in self.path:
            self._cycle(node_id)
            return False
        if node_id in self.sound:
            return self.sound[node_id]
        self.path.append(node_id)
        inputs = self.prompt[node_id]["inputs"]
        node = self.catalog[self.prompt[node_id]["class_type"]]
        above_sound = True
        own: list[dict[str, Any]] = []
        dynamic = {name: ANYTHING for name in inputs if name not in node.inputs and node.takes(name)}
        for name, spec in {**node.inputs, **dynamic}.items():
            if isinstance(inputs.get(name), list) and len(inputs[name]) == 2:
                above_sound = self._link(node, name, spec, inputs[name], own) and above_sound
            else:
                own.extend(self._value(node, name, spec, inputs))
        own.extend(self._custom(node, inputs))
        self.path.pop()
        for error in own:
            self._blame(node_id, error)
        self.sound[node_id] = above_sound and not own and node_id not in self.errors
        return self.sound[node_id]

    def _link(self, node: Node, name: str, spec: Any, link: list[Any], own: list[dict[str, Any]]) -> bool:
        """Checks a link and what lies behind it; whether what lies behind it is sound."""
        source, slot = link
        given = self.catalog[self.prompt[source]["class_type"]].outputs[slot]
        wanted = self.catalog.spec(spec)[0]
        if not _fits(given, wanted):
            details = f"{name}, received_type({given}) mismatch input_type({wanted})"
            message = "Return type mismatch between linked nodes"
            own.append(
                complaint(
                    "return_type_mismatch",
                    message,
                    details,
                    **self._about(name, spec),
                    received_type=given,
                    linked_node=link,
                )
            )
            return True
        try:
            return self._node(source)
        except Exception as error:  # noqa: BLE001 - as in `verdict`
            kind, message = "exception_during_inner_validation", "Exception when validating inner node"
            told = _exception(kind, message, error)
            told["extra_info"] = {
                **self._about(name, spec),
                "exception_message": str(error),
                **told["extra_info"],
                "linked_node": link,
            }
            self.errors[source] = [told]
            self.sound[source] = False
            del self.path[self.path.index(source) :]
            return False

    def _value(self, node: Node, name: str, spec: Any, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What is wrong with one plain value."""
        spec = self.catalog.spec(spec)
        if name not in inputs:
            if name in node.required and not any(given.startswith(f"{name}.") for given in inputs):
                yield complaint("required_input_missing", "Required input is missing", name, input_name=name)
            return
        value = inputs[name]
        if isinstance(value, list):
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            yield complaint(
                "bad_linked_input", message, name, **self._about(name, spec), received_value=value
            )
            return
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[name] = value["__value__"]
        kind, options = spec[0], spec[1] if len(spec) > 1 else {}
        try:
            if isinstance(kind, str) and kind in CONVERT:
                value = inputs[name] = CONVERT[kind](value)
        except Exception as error:  # noqa: BLE001 - whatever int() and its like raise is told
            message = f"Failed to convert an input value to a {kind} value"
            extra = {"received_value": value, "exception_message": str(error)}
            yield complaint(
                "invalid_input_type", message, f"{name}, {value}, {error}", **self._about(name, spec), **extra
            )
            return
        if node.valid is None:
            # A declaration without choices is of a server without such files: then any name will do.
            yield from self._bounds(name, spec, kind, options, value, lenient=node.known is not None)

    def _bounds(
        self, name: str, spec: Any, kind: Any, options: Mapping[str, Any], value: Any, *, lenient: bool
    ) -> Iterator[dict[str, Any]]:
        about = {**self._about(name, spec), "received_value": value}
        choices = options.get("options") if kind == "COMBO" else kind
        if "min" in options and value < options["min"]:
            yield complaint(
                "value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, **about
            )
        elif "max" in options and value > options["max"]:
            yield complaint(
                "value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, **about
            )
        elif isinstance(choices, list) and value not in choices and (choices or not lenient):
            long = len(choices) > LONG_LIST
            listed = f"(list of length {len(choices)})" if long else str(choices)
            about["input_config"] = None if long else about["input_config"]
            yield complaint(
                "value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", **about
            )

    def _custom(self, node: Node, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the node's own check says."""
        if node.valid is None:
            return
        values = {
            name: value
            for name, value in inputs.items()
            if name in node.inputs and not isinstance(value, list)
        }
        answer = node.valid(self.catalog, **values)
        if answer is not True:
            name = next(iter(node.more.get("validates", values)), "")
            details = name if answer is False else f"{name} - {answer}"
            yield complaint(
                "custom_validation_failed", "Custom validation failed for node", details, input_name=name
            )

    def _cycle(self, node_id: str) -> None:
        members = self.path[self.path.index(node_id) :]
        if not self.profile.names_cycles:
            self.sound.update(dict.fromkeys(members, False))
            return
        details = " -> ".join(
            f"{member} ({self.prompt[member]['class_type']})" for member in [*members, node_id]
        )
        for member in members:
            extra = {"node_id": member, "cycle_nodes": list(members)}
            self._blame(member, complaint("dependency_cycle", "Dependency cycle detected", details, **extra))

    def _about(self, name: str, spec: Any) -> dict[str, Any]:
        spec = self.catalog.spec(spec)
        return {"input_name": name, "input_config": [spec[0], spec[1] if len(spec) > 1 else {}]}

    def _blame(self, node_id: str, error: dict[str, Any]) -> None:
        self.errors.setdefault(node_id, []).append(error)
        self.sound[node_id] = False


def _fits(given: Any, wanted: Any) -> bool:
    """Whether an output of one type may feed an input of another; "*" and dynamic types fit anything."""
    if (
        given == wanted
        or "*" in (given, wanted)
        or any(str(one).startswith("COMFY_") for one in (given, wanted))
    ):
        return True
    if isinstance(given, list) or isinstance(wanted, list):
        return isinstance(given, list) and isinstance(wanted, list) and set(given) <= set(wanted)
    if {"COMBO"} & {given, wanted}:
        return False
    return bool(set(str(given).split(",")) <= set(str(wanted).split(",")))


def _exception(kind: str, message: str, error: Exception) -> dict[str, Any]:
    told = traceback.format_tb(error.__traceback__)
    return complaint(kind, message, str(error), exception_type=type(error).__qualname__, traceback=told)
