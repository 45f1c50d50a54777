"""What a caller would want to set in a workflow, typed and bounded: what a form or an endpoint shows."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, overload

from async_comfy.errors import WorkflowError
from async_comfy.workflow.declarations import InputDeclaration, live_inputs_of
from async_comfy.workflow.files import TAKES_FILES, File
from async_comfy.workflow.nodes import Nodes, NodeView
from async_comfy.workflow.promoted import Labels
from async_comfy.workflow.seeds import is_seed
from async_comfy.workflow.spelling import nearest
from async_comfy.workflow.values import as_file, linked

Kind = Literal["prompt", "seed", "size", "sampling", "file", "model", "primitive", "promoted", "setting"]
Type = Literal["string", "integer", "number", "boolean", "file"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that may be set.

    `name`: for programs, made from titles, and stable as long as these are. `label`: for people. `path`: the
    input, as `Workflow.set` takes it. `kind`: what it is about. `default`: the value in the workflow.
    `minimum`, `maximum`, `choices`: what it takes, None where anything goes. `step`: for a slider.
    `multiline`: a text that may be long. `media`: for a file, "image", "audio", "video" or "".
    """

    name: str
    label: str
    path: str
    kind: Kind
    type: Type
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    multiline: bool = False
    media: str = ""
    description: str = ""

    def accept(self, value: Any) -> Any:
        """`value` as the workflow takes it.

        Raises: `WorkflowError` that says what it takes instead.
        """
        settled = _ACCEPT[self.type](value)
        if settled is None:
            raise self._refusal(value, f"takes {_A[self.type]}")
        if self.choices is not None and settled not in self.choices and self.type != "file":
            near = nearest(str(value), [str(choice) for choice in self.choices], 3, 0.5)
            raise self._refusal(value, f"takes one of {', '.join(near or map(str, self.choices[:10]))}")
        if self.minimum is not None and self.type in _NUMBERS and settled < self.minimum:
            raise self._refusal(value, f"takes {self.minimum} at least")
        if self.maximum is not None and self.type in _NUMBERS and settled > self.maximum:
            raise self._refusal(value, f"takes {self.maximum} at most")
        return settled

    def _refusal(self, value: Any, takes: str) -> WorkflowError:
        shown = repr(value)
        return WorkflowError(
            f"{takes}, not {shown if len(shown) < 80 else shown[:77] + '...'}.",
            place=f"parameter {self.name!r}",
        )

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        found: dict[str, Any] = {
            "title": self.label,
            "description": self.description,
            "type": "string" if self.type == "file" else self.type,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "enum": list(self.choices) if self.choices is not None and self.type != "file" else None,
            "contentMediaType": f"{self.media or 'application'}/*" if self.type == "file" else None,
            "x-kind": self.kind,
            "x-step": self.step,
            "x-multiline": self.multiline or None,
        }
        if not isinstance(self.default, File):
            found["default"] = self.default
        return {key: value for key, value in found.items() if value not in (None, "") or key == "default"}


class Parameters(Sequence[Parameter]):
    """The parameters of a workflow, in its order, and what a sidecar fixed (`pinned`: path to value)."""

    def __init__(self, found: Sequence[Parameter], pinned: Mapping[str, Any] | None = None) -> None:
        self._found = tuple(found)
        self.pinned: Mapping[str, Any] = dict(pinned or {})

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Parameter]: ...
    def __getitem__(self, index: int | slice) -> Parameter | Sequence[Parameter]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<Parameters {', '.join(found.name for found in self._found)}>"

    def named(self, name: str) -> Parameter:
        """The one of that name. Raises: `WorkflowError` with the nearest."""
        for found in self._found:
            if found.name == name:
                return found
        names = [found.name for found in self._found]
        near = nearest(name, names, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names) or 'none'}."
        raise WorkflowError(f"there is no parameter {name!r}.", hint=hint)

    def accept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` by name as settled values by path, with all that is pinned.

        Raises: `WorkflowError` for the first that does not fit.
        """
        settled = {}
        for name, value in values.items():
            found = self.named(name)
            settled[found.path] = found.accept(value)
        return {**settled, **self.pinned}

    def schema(self, title: str = "") -> dict[str, Any]:
        """A JSON Schema of an object that holds any of them."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **({"title": title} if title else {}),
            "type": "object",
            "properties": {found.name: found.schema() for found in self._found},
            "additionalProperties": False,
        }


_NUMBERS = frozenset({"integer", "number"})
_A: Mapping[Type, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "file": "a file, or the name of one on the server",
}


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _number(value: Any) -> float | None:
    return (
        value if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
    )


_ACCEPT: Mapping[Type, Callable[[Any], Any]] = {
    "string": lambda value: value if isinstance(value, str) else None,
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "file": lambda value: value if isinstance(value, str) else as_file(value),
}

SIZES = frozenset(
    {"width", "height", "batch_size", "length", "frames", "num_frames", "fps", "frame_rate", "megapixels"}
    | {"duration", "seconds", "resolution", "aspect_ratio"}
)
SAMPLING = frozenset({"steps", "cfg", "denoise", "guidance", "sampler_name", "scheduler"})
PROMPTS = frozenset(
    {"text", "prompt", "positive_prompt", "negative_prompt", "text_g", "text_l", "clip_l", "clip_g", "t5xxl"}
    | {"tags", "lyrics", "caption"}
)
MODELS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft", ".onnx"})
VAGUE = frozenset({"text", "value", "string", "image", "audio", "video", "file", "mask"})
"""Names of inputs that say little: there, the node's title is the better name."""

_UNTITLED = frozenset({"CLIP Text Encode (Prompt)", "Load Image", "Load Audio", "Load Video"})


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: NodeView
    input: str
    kind: Kind
    declared: InputDeclaration | None
    label: str

    @property
    def path(self) -> str:
        return f"{self.node.id}.{self.input}"

    @property
    def value(self) -> Any:
        return self.node.inputs[self.input]


def listed(
    nodes: Nodes,
    object_info: Mapping[str, Any] | None,
    *,
    promoted: Labels,
    chosen: Labels,
    wanted: Sequence[str] = (),
) -> list[Parameter]:
    """The parameters of a workflow, those that its author chose first.

    `promoted` and `chosen`: what its author shows outside of subgraphs and in app mode. `wanted`: paths that
    are listed in any case.
    """
    labels = {**promoted, **chosen}
    shown = {path.partition(":")[0] for path in promoted}
    found = [
        candidate
        for node in nodes.values()
        for candidate in _candidates(node, object_info, labels, wanted)
        # Inside of a subgraph that shows some of its inputs, the others are its own affair.
        if candidate.label or candidate.path in wanted or candidate.kind == "seed" or not _inside(node, shown)
    ]
    order = {path: index for index, path in enumerate(chosen)}
    found.sort(key=lambda candidate: order.get(candidate.path, len(order)))
    return [_parameter(name, candidate) for name, candidate in zip(_names(found, nodes), found, strict=True)]


def _inside(node: NodeView, shown: set[str]) -> bool:
    outer, colon, _ = node.id.partition(":")
    return bool(colon) and outer in shown


def _candidates(
    node: NodeView, object_info: Mapping[str, Any] | None, labels: Labels, wanted: Sequence[str]
) -> Iterator[_Candidate]:
    declared = live_inputs_of(object_info, node.class_type, node.inputs)
    for name, value in node.inputs.items():
        path, declaration = f"{node.id}.{name}", declared.get(name)
        kind = _kind(node, name, value, declaration)
        if isinstance(value, list | dict) or value is None:
            continue
        if kind is None and path in labels:
            kind = "promoted"
        if kind is None and path in wanted:
            kind = "setting"
        if kind is not None:
            yield _Candidate(node, name, kind, declaration, labels.get(path, ""))


def _kind(node: NodeView, name: str, value: Any, declared: InputDeclaration | None) -> Kind | None:
    if is_seed(name, declared) and isinstance(value, int):
        return "seed"
    if isinstance(value, File) or (node.class_type, name) in TAKES_FILES or _media(declared):
        return "file"
    if node.class_type.startswith("Primitive"):
        return "primitive"
    if name in SIZES:
        return "size"
    if name in SAMPLING:
        return "sampling"
    return _kind_of_text(name, value, declared) if isinstance(value, str) else None


def _kind_of_text(name: str, value: str, declared: InputDeclaration | None) -> Kind | None:
    if PurePosixPath(value).suffix.lower() in MODELS:
        return "model"
    long = declared is not None and declared.type == "STRING" and declared.options.get("multiline")
    return "prompt" if long or name in PROMPTS else None


def _media(declared: InputDeclaration | None) -> str:
    """The medium of an upload ("image" of ``image_upload``), "" where the input takes none."""
    options = declared.options if declared else {}
    return next((key[: -len("_upload")] for key, on in options.items() if key.endswith("_upload") and on), "")


def _parameter(name: str, candidate: _Candidate) -> Parameter:
    declared, kind = candidate.declared, candidate.kind
    options = declared.options if declared else {}
    type_ = "file" if kind == "file" else _type(candidate.value, declared)
    return Parameter(
        name=name,
        label=candidate.label or _label(candidate),
        path=candidate.path,
        kind=kind,
        type=type_,
        default=candidate.value,
        minimum=_limit(options.get("min")) if type_ in _NUMBERS else None,
        maximum=_limit(options.get("max")) if type_ in _NUMBERS else None,
        step=_limit(options.get("step")) if type_ in _NUMBERS else None,
        choices=declared.choices if declared else None,
        multiline=kind == "prompt",
        media=_media(declared) or (candidate.input if kind == "file" and candidate.input != "file" else ""),
        description=str(options.get("tooltip") or ""),
    )


def _label(candidate: _Candidate) -> str:
    return candidate.node.title if candidate.input in VAGUE else f"{candidate.node.title}: {candidate.input}"


def _limit(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _type(value: Any, declared: InputDeclaration | None) -> Type:
    by_declaration: Mapping[str, Type] = {
        "INT": "integer",
        "FLOAT": "number",
        "BOOLEAN": "boolean",
        "STRING": "string",
    }
    if declared is not None and declared.type in by_declaration:
        return by_declaration[declared.type]
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _names(found: Sequence[_Candidate], nodes: Nodes) -> list[str]:
    """A name each; those who would share one are all lengthened, so that order decides nothing."""
    roles = _roles(nodes)
    forms = [_forms(candidate, roles) for candidate in found]
    names = [form[0] for form in forms]
    for length in range(1, 4):
        shared = Counter(names)
        names = [form[length] if shared[name] > 1 else name for name, form in zip(names, forms, strict=True)]
    shared = Counter(names)
    return [f"{name}_{index}" if shared[name] > 1 else name for index, name in enumerate(names)]


def _forms(candidate: _Candidate, roles: Mapping[str, str]) -> tuple[str, str, str, str]:
    title, what = slug(candidate.node.title), slug(candidate.label or candidate.input)
    titled = title if candidate.input in VAGUE and not candidate.label else f"{title}_{what}"
    key = slug(candidate.node.id)
    return _short(candidate, roles), titled, f"{titled}_{key}", f"{title}_{slug(candidate.input)}_{key}"


def _short(candidate: _Candidate, roles: Mapping[str, str]) -> str:
    if candidate.label and candidate.label not in VAGUE:
        return slug(candidate.label)
    titled = candidate.node.title not in _UNTITLED | {candidate.node.class_type}
    if candidate.input in VAGUE and titled:
        return slug(candidate.node.title)
    if candidate.kind == "prompt" and candidate.input in VAGUE | {"prompt"}:
        return roles.get(candidate.node.id, "prompt")
    return slug(candidate.input)


def _roles(nodes: Nodes) -> dict[str, str]:
    """What untitled texts are for: whose nearest use is as "positive" or as "negative"."""
    users: dict[str, list[tuple[str, str]]] = {}
    for node in nodes.values():
        for name, value in node.inputs.items():
            if (source := linked(value)) is not None:
                users.setdefault(source, []).append((node.id, name))
    return {key: role for key in nodes if (role := _role(key, users))}


def _role(key: str, users: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    seen, layer = {key}, [key]
    while layer:
        uses = [use for node in layer for use in users.get(node, ())]
        roles = {name for _, name in uses} & {"positive", "negative"}
        if roles:
            return f"{roles.pop()}_prompt" if len(roles) == 1 else ""
        layer = list({node for node, _ in uses} - seen)
        seen.update(layer)
    return ""


def slug(text: str) -> str:
    """`text` as a name for programs: lower case, words joined by underscores."""
    return re.sub(r"[^\w]+", "_", text.lower()).strip("_") or "node"
