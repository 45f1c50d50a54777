"""The module that ``async-comfy nodes --stubs`` writes: one typed function for each node class."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from async_comfy.errors import CallerError
from async_comfy.workflow import document
from async_comfy.workflow.authoring.kinds import Kind
from async_comfy.workflow.authoring.names import Names, identifier
from async_comfy.workflow.authoring.signatures import Output, Parameter, Signature, Signatures, Stands
from async_comfy.workflow.authoring.source import INDENT, block, docstring, flat, literal, text, too_long

MODULE = "comfy_nodes"

HEAD = '''"""The node classes of a ComfyUI server, a function each.

Written by `async-comfy nodes --stubs`; write it again when the server changes.

    model, clip, vae = CheckpointLoaderSimple(ckpt_name="sd_xl_base_1.0.safetensors")
    latent = EmptyLatentImage(width=1024, height=1024)
    ...
    workflow = Workflow.of(SaveImage(images=image))

A function returns its one output, a tuple of its outputs by name, or the node where it has none. Inputs that
are not required are left out unless given. `_id`, `_title`: the node's own; `_more`: inputs that the class
does not declare.

Names are the server's, with a dot as `__` and any other character that Python does not allow as `_`; a digit
in front gets `_` before it, a keyword `_` after it, and a name that is taken a number: `_2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, Union, cast

from async_comfy.workflow.authoring import (
    DEFAULT,
    OMITTED,
    Json,
    NewNode,
    Socket,
    Upload,
    grown,
)

# ruff: noqa
'''


def write(object_info: Mapping[str, Any], folder: Path) -> Path:
    """Writes the module into `folder`, made if missing; its path. It appears only when it is whole.

    Raises: `CallerError` where nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CallerError(
            f"{folder}: no folder can be made there: {reason}.", hint="Choose another."
        ) from None
    target = folder / f"{MODULE}.py"
    document.write(target, module(object_info).encode())
    return target


def module(object_info: Mapping[str, Any]) -> str:
    """The source of the module. Nothing that a server says of its nodes gets out of its quotes."""
    signatures = Signatures(object_info)
    parts = [HEAD.rstrip() + "\n"]
    parts += [_socket(kind, python) for kind, python in signatures.types.items()]
    parts += [_Function(signature, signatures).source() for signature in signatures.values()]
    return "\n\n".join(parts)


def _socket(kind: str, python: str) -> str:
    return f"class {python}(Socket):\n{docstring([f'An output of the type {flat(kind)}.'])}\n"


class _Function:
    """One function, with the names that only it needs before it."""

    def __init__(self, signature: Signature, signatures: Signatures) -> None:
        self.signature = signature
        self.types = signatures.types
        self.names: Names = signatures.names
        self.inner = {parameter.python for parameter in signature.parameters}
        self.aliases: list[str] = []
        self.templates = {name: self._variable(name, kind) for name, kind in signature.templates.items()}

    def source(self) -> str:
        """All of it; what it needs is found while it is written."""
        parameters = ["*", *map(self._parameter, self.signature.parameters), *_OWN]
        returns = self._returned()
        head = block(f"def {self.signature.python}(", parameters, f") -> {returns}:")
        function = "\n".join([head, docstring(self._told()), self._node(), self._return(returns)]) + "\n"
        outputs = [self._outputs_class(returns)] if len(self.signature.outputs) > 1 else []
        return "\n\n".join([*(["\n".join(self.aliases)] if self.aliases else []), *outputs, function])

    def _name(self, wanted: str) -> str:
        """A name in the module that no parameter hides from the function."""
        while (name := self.names.give(wanted)) in self.inner:
            continue
        return name

    def _variable(self, template: str, kind: Kind) -> str:
        name = self._name(f"{self.signature.python}_{identifier(template)}")
        allowed = [self.types[socket] for socket in kind.sockets]
        # A type variable has two choices or none; one alone is that type.
        if len(allowed) == 1:
            return allowed[0]
        items = [text(name), *(allowed or ["bound=Socket"])]
        self.aliases.append(f"{block(f'{name} = TypeVar(', items, ')')}\n")
        return name

    def _parameter(self, parameter: Parameter) -> str:
        default = parameter.default
        shown = default.value if isinstance(default, Stands) else literal(default)
        end = "" if default is Stands.NOTHING else f" = {shown}"
        annotation = self._annotation(parameter)
        line = f"{parameter.python}: {annotation}{end}"
        if too_long(f"{line},", 1):
            line = f"{parameter.python}: {self._alias(parameter)}{end}"
        return line

    def _annotation(self, parameter: Parameter) -> str:
        parts = self._parts(parameter.kind)
        one = " | ".join(parts)
        return f"Sequence[{one}] | Mapping[str, {one}]" if parameter.grown is not None else one

    def _parts(self, kind: Kind) -> list[str]:
        if kind.anything:
            return ["Any"]
        if kind.template is not None:
            return [self.templates[kind.template]]
        choices = [f"Literal[{', '.join(map(literal, kind.choices))}]"] if kind.choices else []
        return [*kind.plain, *choices, *(self.types[socket] for socket in kind.sockets)]

    def _alias(self, parameter: Parameter) -> str:
        """A name for a type that is too long for its line."""
        if parameter.kind.anything or parameter.kind.template is not None:
            return self._annotation(parameter)
        name = self._name(f"{self.signature.python}_{parameter.python}")
        self.aliases.append(f"{name}: TypeAlias = {self._union(parameter)}\n")
        return name

    def _union(self, parameter: Parameter) -> str:
        if parameter.grown is not None:
            one = parameter.kind
            item = self._name(f"{self.signature.python}_{parameter.python}_item")
            self.aliases.append(f"{item}: TypeAlias = {self._listed(one)}\n")
            return f"Union[\n{INDENT}Sequence[{item}],\n{INDENT}Mapping[str, {item}],\n]"
        return self._listed(parameter.kind)

    def _listed(self, kind: Kind) -> str:
        """A union, one part a line, and so with the choices in it."""
        parts = [*kind.plain, *(self.types[socket] for socket in kind.sockets)]
        if kind.choices:
            depth = 1 if parts else 0
            few = len(kind.choices) == 1
            values = [literal(choice) for choice in kind.choices]
            parts.insert(0, f"Literal[{values[0]}]" if few else block("Literal[", values, "]", depth))
        return parts[0] if len(parts) == 1 else block("Union[", parts, "]")

    def _returned(self) -> str:
        """The type of what the function returns, with the type variables that it depends on."""
        outputs = self.signature.outputs
        if len(outputs) < 2:
            return self._output_type(outputs[0]) if outputs else "NewNode"
        used = dict.fromkeys(self._output_type(output) for output in outputs if output.kind.template)
        variables = [variable for variable in used if variable not in self.types.values()]
        name = self._name(f"{self.signature.python}Outputs")
        return f"{name}[{', '.join(variables)}]" if variables else name

    def _outputs_class(self, returns: str) -> str:
        name, bracket, variables = returns.partition("[")
        generic = f", Generic[{variables}" if bracket else ""
        outputs = self.signature.outputs
        fields = [f"{INDENT}{output.python}: {self._output_type(output)}\n" for output in outputs]
        doc = docstring([f"The outputs of {flat(self.signature.class_type)}."])
        return f"class {name}(NamedTuple{generic}):\n{doc}\n\n{''.join(fields)}"

    def _output_type(self, output: Output) -> str:
        if output.kind.anything:
            return "Any"
        template = output.kind.template
        return self.templates[template] if template is not None else self.types[output.kind.sockets[0]]

    def _node(self) -> str:
        inputs = [_given(parameter) for parameter in self.signature.parameters]
        arguments = [text(self.signature.class_type), block("{", inputs, "}", 2)]
        arguments += ["id=_id", "title=_title", "more=_more"]
        if self.signature.defaults:
            arguments.append(f"defaults={literal(self.signature.defaults, 2)}")
        if self.signature.options:
            arguments.append(f"options={literal(self.signature.options, 2)}")
        return INDENT + block("_node = NewNode(", arguments, ")", 1)

    def _return(self, returns: str) -> str:
        made = [self._made(slot, output) for slot, output in enumerate(self.signature.outputs)]
        if len(made) < 2:
            return f"{INDENT}return {made[0] if made else '_node'}"
        return INDENT + block(f"return {returns.partition('[')[0]}(", made, ")", 1)

    def _made(self, slot: int, output: Output) -> str:
        if output.kind.anything:
            return f"_node[{slot}]"
        if output.kind.template is not None:
            return f"cast({self._output_type(output)}, _node[{slot}])"
        return f"{self._output_type(output)}(_node, {slot})"

    def _told(self) -> Iterator[str]:
        raw = self.signature.raw
        first = flat(raw.get("display_name") or self.signature.class_type)
        yield first if first.endswith(".") else f"{first}."
        yield "\n".join(map(flat, str(raw.get("description") or "").splitlines()))
        yield " ".join([f"Category: {flat(raw.get('category') or 'none')}.", *_marks(raw)])
        told = [f"    {one.python}: {said}" for one in self.signature.parameters if (said := said_of(one))]
        if told:
            yield "Args:\n" + "\n".join(told)
        if self.signature.outputs:
            yield "Returns:\n    " + ", ".join(_shown(output) for output in self.signature.outputs) + "."


_OWN = (
    "_id: str | None = None",
    "_title: str | None = None",
    "_more: Mapping[str, Any] | None = None",
)

_MARKS = {
    "deprecated": "Deprecated.",
    "experimental": "Experimental.",
    "api_node": "A partner node: it needs a key, and costs.",
    "output_node": "An output node.",
}


def _marks(raw: Mapping[str, Any]) -> list[str]:
    return [said for mark, said in _MARKS.items() if raw.get(mark) is True]


def _given(parameter: Parameter) -> str:
    name = text(parameter.name)
    if parameter.grown is None:
        return f"{name}: {parameter.python}"
    arguments = [name, parameter.python, *_numbered(parameter.grown)]
    return block("**grown(", arguments, ")", 3)


def _numbered(names: list[str]) -> list[str]:
    """Names that only count are said by their prefix."""
    prefix = names[0].removesuffix("0") if names else ""
    if names == [f"{prefix}{number}" for number in range(len(names))]:
        return [f"prefix={text(prefix)}", f"most={len(names)}"]
    return [f"names={literal(names, 4)}"]


def _shown(output: Output) -> str:
    kind = output.kind.sockets[0] if output.kind.sockets else "any type"
    return flat(kind if output.name in ("", kind) else f"{output.name} ({kind})")


def said_of(parameter: Parameter) -> str:
    """What there is to know of an input beyond its type: its tooltip and its range."""
    options = parameter.declared.options
    tooltip = flat(options.get("tooltip") or "")
    tooltip = tooltip if not tooltip or tooltip.endswith((".", "!", "?")) else f"{tooltip}."
    least, most, step = (options.get(key) for key in ("min", "max", "step"))
    limits = [f"{word} {value}" for word, value in (("from", least), ("to", most)) if _is_number(value)]
    if limits and _is_number(step) and step != 1:
        limits.append(f"in steps of {step}")
    said = " ".join(limits)
    return " ".join(filter(None, [tooltip, f"{said[:1].upper()}{said[1:]}." if said else ""]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
