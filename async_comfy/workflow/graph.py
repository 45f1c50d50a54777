"""A workflow that can be edited: nodes, their inputs, and the links between them."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from async_comfy.errors import WorkflowError
from async_comfy.workflow import bypass, document, seeds, sidecar
from async_comfy.workflow.check import Finding, check
from async_comfy.workflow.declarations import declares
from async_comfy.workflow.files import TAKES_FILES, File, FileInput, is_url
from async_comfy.workflow.nodes import Nodes
from async_comfy.workflow.parameters import Parameters, listed
from async_comfy.workflow.promoted import chosen, promoted
from async_comfy.workflow.record import Record
from async_comfy.workflow.seeds import Randomness, SeedRule
from async_comfy.workflow.shape import NodeShape, shape_of
from async_comfy.workflow.spelling import nearest
from async_comfy.workflow.values import Link, fresh, linked, settle

if TYPE_CHECKING:
    from async_comfy.workflow.authoring.drafts import End

T = TypeVar("T")

ObjectInfo = Mapping[str, Any]
"""What a server's nodes are, as GET /object_info says: class type to declaration. A part of it will do."""


class Inputs(MutableMapping[str, Any]):
    """The inputs of one node. What you read is a copy: assign it back to change the workflow."""

    def __init__(self, workflow: "Workflow", node: str) -> None:
        self._workflow = workflow
        self._node = node

    def __getitem__(self, name: str) -> Any:
        return fresh(self._workflow._record(self._node).inputs[name])

    def __setitem__(self, name: str, value: Any) -> None:
        self._workflow._put(self._node, name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._workflow._drop(self._node, name)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._workflow._record(self._node).inputs))

    def __len__(self) -> int:
        return len(self._workflow._record(self._node).inputs)

    def __contains__(self, name: object) -> bool:
        return name in self._workflow._record(self._node).inputs

    def __repr__(self) -> str:
        return repr(self._workflow._record(self._node).inputs)


class Node:
    """One node of a workflow. `node[0]` is its first output, to be put where another node takes it in."""

    __slots__ = ("_workflow", "id")

    def __init__(self, workflow: "Workflow", node: str) -> None:
        self._workflow = workflow
        self.id = node

    @property
    def class_type(self) -> str:
        """The node's class on the server."""
        return self._workflow._record(self.id).class_type

    @property
    def title(self) -> str:
        """What people call it: the title in the editor, else the class."""
        return self._workflow._record(self.id).title

    @title.setter
    def title(self, title: str) -> None:
        self._workflow._entitle(self.id, title)

    @property
    def inputs(self) -> Inputs:
        """Its inputs by name, to read and to set. Assigning to a name that it does not have adds it."""
        return Inputs(self._workflow, self.id)

    def __getitem__(self, slot: int) -> Link:
        return Link(self.id, slot)

    def remove(self) -> None:
        """Takes the node out of the workflow, with the links to it."""
        self._workflow.remove(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other._workflow is self._workflow and other.id == self.id

    def __hash__(self) -> int:
        return hash((id(self._workflow), self.id))

    def __repr__(self) -> str:
        return f"<Node {self._workflow._record(self.id).label}>"


class Workflow:
    """What to run: nodes by id, each with its class and its inputs.

    Made by `load`, or empty to `add` nodes to. Nodes are addressed by id, title or class.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Record] = {}
        self._owner: object = object()
        self._shape: Mapping[str, NodeShape] | None = None
        self._derived: dict[Callable[[Nodes], Any], Any] = {}
        self._ui: dict[str, Any] | None = None
        self._place = "workflow"
        self._unresolved = False
        self._edited = False

    @classmethod
    def load(cls, source: document.Source) -> "Workflow":
        """The workflow in a file (a path), in bytes, in JSON text or in decoded JSON.

        Takes the API format, the editor's own format, a PNG, WebP, JPEG, MP4 or FLAC that ComfyUI made, and
        an entry of a server's history.

        Raises: `WorkflowError` that says what it is instead, where it broke, and what to do.
        """
        found = document.read(source)
        workflow = cls()
        workflow._ui, workflow._place = found.ui, found.place
        workflow._unresolved = found.prompt is None
        for key, node in (found.prompt or {}).items():
            workflow._take(key, node)
        return workflow

    @classmethod
    def of(cls, *ends: "End") -> "Workflow":
        """The workflow of nodes written in Python: those given, and all that they take something from.

        `ends`: what the functions of the nodes returned, ``Workflow.of(SaveImage(images=image))``.

        Raises: `WorkflowError` where two nodes have the same id, or an input holds what it cannot.
        """
        from async_comfy.workflow.authoring.drafts import prompt_of

        workflow = cls()
        for key, node in prompt_of(ends).items():
            workflow._take(key, node)
        return workflow

    @property
    def format(self) -> Literal["api", "ui"]:
        """What was loaded: "api", or "ui" for the editor's own format, which `resolve` makes runnable."""
        return "ui" if self._unresolved else "api"

    @property
    def ui(self) -> dict[str, Any] | None:
        """The editor's document as it was loaded; None if there was none, or an edit made it untrue."""
        return None if self._edited else self._ui

    @property
    def class_types(self) -> frozenset[str]:
        """The node classes that a server needs for it."""
        if self._unresolved:
            from async_comfy.workflow import convert

            return convert.classes_needed(self._ui or {})
        return frozenset(record.class_type for record in self._nodes.values())

    def resolve(self, object_info: ObjectInfo, *, strict: bool = True) -> "Workflow":
        """This workflow with nodes that run: itself, or the editor's format converted as the editor does.

        Raises: `WorkflowError` where a class is unknown; with ``strict=False`` such nodes are guessed at.
        """
        if not self._unresolved:
            return self
        from async_comfy.workflow import convert

        resolved = Workflow()
        resolved._ui, resolved._place = self._ui, self._place
        for key, node in convert.to_api(self._ui or {}, object_info, strict=strict).items():
            resolved._take(key, node)
        return resolved

    def to_api(
        self,
        object_info: ObjectInfo | None = None,
        *,
        strict: bool = True,
        files: Mapping[tuple[str, str], str] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """The prompt as POST /prompt takes it: plain JSON, and yours to change.

        `files`: (node id, input) to the name on the server, for every one of `files()`.

        Raises: `WorkflowError` where the editor's format meets no `object_info`, or a file has no name yet.
        """
        source = self.resolve(object_info, strict=strict) if object_info is not None else self
        ready = source._ready(files)
        return {key: fresh(record.plain()) for key, record in ready._nodes.items()}

    def encode(self, *, files: Mapping[tuple[str, str], str] | None = None) -> bytes:
        """The prompt of `to_api` as JSON text. Nodes that no edit touched are not encoded again.

        Raises: as `to_api`.
        """
        ready = self._ready(files)
        return b"{" + b",".join([record.encode() for record in ready._nodes.values()]) + b"}"

    def copy(self) -> "Workflow":
        """A copy to edit. Both share every node until one of them edits it."""
        other = Workflow()
        other._nodes = dict(self._nodes)
        other._shape = self.shape  # made here, or every one of a thousand copies would make its own
        other._ui, other._place, other._unresolved = self._ui, self._place, self._unresolved
        other._edited = self._edited
        other._derived = self._derived.copy()
        self._owner = object()  # from here on neither owns the shared nodes, so either copies before it edits
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> "Workflow":
        return self.copy()  # what they share is never changed in place

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shape": None, "_derived": {}}

    def to_python(self, object_info: ObjectInfo | None = None, *, module: str = "comfy_nodes") -> str:
        """Python source that makes this workflow: the same nodes, ids and titles, bound to `workflow`.

        With the `object_info` that the stubs of `module` were written from, it calls their typed functions;
        nodes of other classes, or all of them without it, are written without types.

        Raises: `WorkflowError` for the editor's format without `object_info`, for nodes in a circle, and for
        files held in memory.
        """
        from async_comfy.workflow.authoring.program import program

        ready = self.resolve(object_info) if object_info is not None else self
        ready._must_be_resolved()
        titles = {key: record.title for key, record in ready._nodes.items() if "_meta" in record.rest}
        return program(ready._nodes, titles, object_info or {}, module)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the prompt in API format; the file appears only when it is whole. The path written.

        Raises: `WorkflowError` where it cannot be written, or as `to_api`.
        """
        target = Path(path)
        text = json.dumps(self.to_api(), indent=2, ensure_ascii=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # lone surrogates exist in JSON alone
            data = json.dumps(self.to_api(), indent=2).encode()
        document.write(target, data)
        return target

    def __getitem__(self, key: str) -> Node:
        """The node of that id, else of that title, else of that class.

        Raises: `WorkflowError` where there is none, or more than one.
        """
        return Node(self, self._one(key))

    def __iter__(self) -> Iterator[Node]:
        self._must_be_resolved()
        return iter([Node(self, key) for key in self._nodes])

    def __len__(self) -> int:
        self._must_be_resolved()
        return len(self._nodes)

    def __bool__(self) -> bool:
        return True  # an empty workflow is a workflow; `len` would make it false

    def __contains__(self, key: object) -> bool:
        if isinstance(key, Node):
            return key._workflow is self and key.id in self._nodes
        return isinstance(key, str) and bool(self._ids(key))

    def __repr__(self) -> str:
        size = "in the editor's format" if self._unresolved else f"{len(self._nodes)} nodes"
        return f"<Workflow {size}>"

    def find(self, class_type: str | None = None, title: str | None = None) -> list[Node]:
        """The nodes of that class and that title; all of them without either."""
        return [
            node for node in self if class_type in (None, node.class_type) and title in (None, node.title)
        ]

    def get(self, path: str) -> Any:
        """The value at ``NODE.INPUT``, None where the node has no such input. Raises as `set`."""
        node, name = self._locate(path)
        return self[node].inputs.get(name)

    def set(self, path: str, value: Any, *, object_info: ObjectInfo | None = None, new: bool = False) -> None:
        """Sets ``NODE.INPUT``, the node by id, title or class: ``set("KSampler.seed", 42)``.

        Raises: `WorkflowError` where the node is not there or ambiguous, or has no such input, unless
        `object_info` declares it or `new` allows it.
        """
        node, name = self._locate(path)
        record = self._nodes[node]
        if not (new or name in record.inputs or declares(object_info, record.class_type, name)):
            raise WorkflowError(
                f"there is no input {name!r}.",
                place=f"node {record.label}",
                hint=_suggest(name, list(record.inputs), "It has"),
            )
        self._put(node, name, value)

    def add(
        self,
        class_type: str,
        *,
        title: str | None = None,
        id: str | None = None,  # noqa: A002 - what a node calls it; no function here needs the builtin
        **inputs: Any,
    ) -> Node:
        """A new node, under `id` or the next free number.

        Raises: `WorkflowError` where the id is taken.
        """
        self._must_be_resolved()
        key = id if id is not None else self._next_id()
        if key in self._nodes:
            raise WorkflowError(f"node id {key!r} is taken.", place=f"node {self._nodes[key].label}")
        self._take(key, {"class_type": class_type, "inputs": inputs, **_meta(title)})
        self._edited = True
        return Node(self, key)

    def remove(self, node: "Node | str") -> None:
        """Takes a node out, with the links to it. Raises: `WorkflowError` where it is not there."""
        key = self._key(node)
        for other, name in self._uses(key):
            self._drop(other, name)
        del self._nodes[key]
        self._shape, self._edited = None, True
        self._derived = {}

    def connect(self, source: "Node | str", slot: int, target: "Node | str", name: str) -> None:
        """Links output number `slot` of `source` to the input `name` of `target`.

        Raises: `WorkflowError` where one of the nodes is not there.
        """
        self._put(self._key(target), name, Link(self._key(source), slot))

    def disconnect(self, target: "Node | str", name: str) -> None:
        """Takes the link out of an input. Raises: `WorkflowError` where there is none."""
        key = self._key(target)
        if linked(self._nodes[key].inputs.get(name)) is None:
            raise WorkflowError(f"input {name!r} has no link.", place=f"node {self._nodes[key].label}")
        self._drop(key, name)

    def bypass(self, node: "Node | str", object_info: ObjectInfo | None = None) -> None:
        """Takes a node out and links what it was given to who used it, by type, as the editor does.

        Users of an output that no input matches lose that input.

        Raises: `WorkflowError` without the node's declaration: types are known from nowhere else.
        """
        key = self._key(node)
        record = self._nodes[key]
        ways = bypass.through(record.class_type, record.inputs, object_info, f"node {record.label}")
        for other, name in self._uses(key):
            instead = ways.get(self._nodes[other].inputs[name][1])
            if instead is not None:
                self._put(other, name, instead)
        self.remove(key)

    def files(self) -> list[FileInput]:
        """The files that must be on the server first, each with the input that waits for its name."""
        return self.derived(_files).copy()

    def seeds(self, object_info: ObjectInfo | None = None) -> dict[str, int]:
        """Every seed by its place: ``{"3.seed": 42}``. What `object_info` marks as seeds counts, too."""
        self._must_be_resolved()
        return {seed.path: seed.value for seed in seeds.found(self._nodes, object_info)}

    @property
    def literal_seeds(self) -> Mapping[str, int]:
        """What `seeds` gives without `object_info`: read-only, shared by copies until a seed is edited."""
        self._must_be_resolved()
        return self.derived(_literal_seeds)

    def derived(self, make: Callable[[Nodes], T]) -> T:
        """What `make` gives for the nodes, kept until one of them is edited. Nobody may change it."""
        if make not in self._derived:
            self._derived[make] = make(self._nodes)
        return cast("T", self._derived[make])

    def with_seed(
        self,
        seed: SeedRule,
        *,
        object_info: ObjectInfo | None = None,
        randomness: Randomness | None = None,
    ) -> "Workflow":
        """A copy whose seeds follow the rule: "fixed" (as they are), "random", "per-job", a number, or "+1".

        "random" and "per-job" draw one number here and now and give it to every seed input, cut to what
        that input takes; so does a number; ``"+N"`` adds to each. `randomness`: a `random.Random` to draw.
        """
        variant = self.copy()
        if self._unresolved and seed == "fixed":
            return variant
        self._must_be_resolved()
        for found in seeds.planned(seed, seeds.found(self._nodes, object_info), randomness):
            variant._put(found.node, found.input, found.value)
        return variant

    def check(
        self,
        object_info: ObjectInfo,
        *,
        api_key: bool = False,
        earlier: Iterable["Workflow"] = (),
    ) -> list[Finding]:
        """What a server with these nodes would refuse, and what will surprise; nothing is sent.

        `api_key`: there is one for partner nodes. `earlier`: what this server ran before, to tell
        which outputs it would hand over again.

        Raises: `WorkflowError` where the editor's format cannot be converted at all.
        """
        ready = self.resolve(object_info, strict=False)
        before = [one.resolve(object_info, strict=False)._nodes for one in earlier]
        return check(ready._nodes, object_info, ui=self._ui, api_key=api_key, earlier=before)

    def parameters(
        self, object_info: ObjectInfo | None = None, *, rules: sidecar.Source | None = None
    ) -> Parameters:
        """What a caller would want to set: prompts, seeds, sizes, models, files, and what the author shows.

        `object_info` gives types, ranges and choices. `rules`: a sidecar, TOML or JSON, that renames, pins,
        hides and bounds them, and lists more.

        Raises: `WorkflowError` for the editor's format, or a sidecar that does not fit.
        """
        self._must_be_resolved()
        ruled = self._by_path(sidecar.read(rules)) if rules is not None else {}
        labels, first = promoted(self._ui or {}), chosen(self._ui or {})
        found = listed(self._nodes, object_info, promoted=labels, chosen=first, wanted=list(ruled))
        return sidecar.apply(found, ruled)

    def with_parameters(self, values: Mapping[str, Any], parameters: Parameters | None = None) -> "Workflow":
        """A copy with `values` set by the names of `parameters`, and with what these pin.

        Raises: `WorkflowError` for a name or a value that does not fit.
        """
        known = parameters if parameters is not None else self.parameters()
        variant = self.copy()
        for path, value in known.accept(values).items():
            variant.set(path, value)
        return variant

    @property
    def shape(self) -> Mapping[str, NodeShape]:
        """Per node what following a run needs: read-only, shared by copies that differ in values alone."""
        if self._shape is None:
            self._shape = MappingProxyType(shape_of(self._nodes))
        return self._shape

    # What follows keeps the nodes; nobody outside this module calls it.

    def _take(self, key: str, node: Any) -> None:
        place = f"{self._place}, node {key}"
        if not isinstance(node, dict):
            raise WorkflowError(f"not a node but {document.named(node)}.", place=place)
        rest = dict(node)
        class_type, inputs = rest.pop("class_type", None), rest.pop("inputs", {})
        if not isinstance(class_type, str) or not class_type:
            hint = "The file is damaged, or it is no workflow in API format."
            raise WorkflowError("the node names no class_type.", place=place, hint=hint)
        if not isinstance(inputs, dict):
            raise WorkflowError(f"its inputs are {document.named(inputs)}, not an object.", place=place)
        where = f"{place} ({class_type}), input "
        held = {str(name): _held(class_type, name, value, where) for name, value in inputs.items()}
        self._nodes[key] = Record(self._owner, key, class_type, held, settle(rest, place))
        self._shape, self._derived = None, {}

    def _must_be_resolved(self) -> None:
        if self._unresolved:
            raise WorkflowError(
                "this is in the editor's own format, which a server cannot run.",
                place=self._place,
                hint="Choose Workflow > Export (API) in the editor, or convert it: "
                "workflow.resolve(object_info), with the object_info of a server.",
            )

    def _record(self, key: str) -> Record:
        try:
            return self._nodes[key]
        except KeyError:
            raise WorkflowError(f"node {key} was removed.") from None

    def _own(self, key: str) -> Record:
        """The node's record, to be edited: copied first where another workflow shares it."""
        record = self._record(key)
        if record.owner is not self._owner:
            record = self._nodes[key] = record.owned_by(self._owner)
        record.encoded = None
        self._edited = True
        self._derived = {}
        return record

    def _put(self, key: str, name: str, value: Any) -> None:
        record = self._record(key)
        held = _held(record.class_type, name, value, f"node {record.label}, input ")
        before = record.inputs.get(name)
        self._own(key).inputs[name] = held
        if name == "steps" or linked(before) != linked(held):
            self._shape = None

    def _drop(self, key: str, name: str) -> None:
        del self._own(key).inputs[name]
        self._shape = None

    def _entitle(self, key: str, title: str) -> None:
        record = self._own(key)
        meta = record.rest.get("_meta")
        record.rest["_meta"] = {**(meta if isinstance(meta, dict) else {}), "title": title}
        self._shape = None

    def _ready(self, files: Mapping[tuple[str, str], str] | None) -> "Workflow":
        """Itself with file names for files, or the reason why it cannot be sent."""
        self._must_be_resolved()
        ready = self.copy() if files else self
        for (key, name), on_server in (files or {}).items():
            ready._put(key, name, on_server)
        for waiting in ready.files():
            raise WorkflowError(
                f"{waiting.file!r} is not on the server yet.",
                place=f"node {self._nodes[waiting.node].label}, input {waiting.input!r}",
                hint="A session uploads it; or give files={(node, input): name on the server}.",
            )
        return ready

    def _by_path(self, rules: sidecar.Rules) -> dict[str, sidecar.Rule]:
        """The rules whose keys are inputs, under the input's id and name; the others as they are."""
        found = {}
        for key, rule in rules.items():
            halves = [(key[:i], key[i + 1 :]) for i, letter in enumerate(key) if letter == "."]
            nodes = [(node, name) for left, name in halves for node in self._ids(left)]
            held = [f"{node}.{name}" for node, name in nodes if name in self._nodes[node].inputs]
            found[held[0] if len(held) == 1 else key] = rule
        return found

    def _uses(self, key: str) -> list[tuple[str, str]]:
        """Every (node, input) that links to the node."""
        return [
            (other, name)
            for other, record in self._nodes.items()
            for name, value in record.inputs.items()
            if linked(value) == key
        ]

    def _next_id(self) -> str:
        numbers = (int(key) for key in self._nodes if key.isdecimal() and len(key) < 20)
        return str(max(numbers, default=0) + 1)

    def _key(self, node: "Node | str") -> str:
        return self._one(node.id if isinstance(node, Node) else node)

    def _ids(self, key: str) -> list[str]:
        """Who is meant by `key`: the id before titles, titles before classes."""
        self._must_be_resolved()
        if key in self._nodes:
            return [key]
        titled = [node for node, record in self._nodes.items() if record.title == key]
        return titled or [node for node, record in self._nodes.items() if record.class_type == key]

    def _one(self, key: str) -> str:
        ids = self._ids(key)
        if len(ids) == 1:
            return ids[0]
        if ids:
            candidates = ", ".join(self._nodes[node].label for node in ids)
            raise WorkflowError(f"{key!r} may mean {len(ids)} nodes.", hint=f"Use an id: {candidates}.")
        known = {name: None for node, r in self._nodes.items() for name in (node, r.title, r.class_type)}
        raise WorkflowError(f"there is no node {key!r}.", hint=_suggest(key, list(known), "There are"))

    def _locate(self, path: str) -> tuple[str, str]:
        """The node and the input that ``NODE.INPUT`` means. Both may hold dots, so every dot is tried."""
        halves = [(path[:i], path[i + 1 :]) for i, letter in enumerate(path) if letter == "."]
        if not halves:
            raise WorkflowError(f"{path!r} names no input.", hint='Write NODE.INPUT, such as "6.text".')
        known = [(ids, name, key) for key, name in halves if (ids := self._ids(key))]
        exact = [half for half in known if any(half[1] in self._nodes[node].inputs for node in half[0])]
        _, name, key = (exact or known or [([], halves[0][1], halves[0][0])])[0]
        return self._one(key), name


def _files(nodes: Nodes) -> list[FileInput]:
    return [
        FileInput(node.id, name, value)
        for node in nodes.values()
        for name, value in node.inputs.items()
        if isinstance(value, File)
    ]


def _literal_seeds(nodes: Nodes) -> Mapping[str, int]:
    return MappingProxyType({seed.path: seed.value for seed in seeds.found(nodes)})


def _held(class_type: str, name: str, value: Any, where: str) -> Any:
    if is_url(value) and (class_type, name) in TAKES_FILES:
        return File(value)
    return settle(value, f"{where}{name!r}")


def _meta(title: str | None) -> dict[str, Any]:
    return {"_meta": {"title": title}} if title is not None else {}


def _suggest(name: str, known: list[str], there_are: str) -> str:
    near = nearest(name, known, 1, 0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{there_are}: {', '.join(known[:20]) or 'nothing'}{', ...' if len(known) > 20 else ''}."
