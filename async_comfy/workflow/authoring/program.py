"""A workflow as the Python program that makes it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from keyword import iskeyword
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.authoring.kinds import Kind
from async_comfy.workflow.authoring.names import BUILTINS, Names, snake
from async_comfy.workflow.authoring.signatures import Parameter, Signature, Signatures, Stands
from async_comfy.workflow.authoring.source import block, literal, text, too_long
from async_comfy.workflow.files import File
from async_comfy.workflow.nodes import Nodes, NodeView
from async_comfy.workflow.values import is_link

SHORT = 40  # characters, which fit on a line after any usual name
LONGEST_NAME = 40  # characters of a variable; a title may be a whole paragraph

_OWN_NAMES = {"File", "NewNode", "OMITTED", "Workflow", "untyped", "workflow"}


def program(nodes: Nodes, titles: Mapping[str, str], object_info: Mapping[str, Any], module: str) -> str:
    """Python source that makes these nodes and binds `workflow` to them.

    `titles`: those that are a node's own. `object_info`: what `module`, a module of stubs, was written from;
    nodes of other classes are written without types.

    Raises: `WorkflowError` for nodes in a circle, for files in memory, and for a module that is none.
    """
    if not all(part.isidentifier() and not iskeyword(part) for part in module.split(".")):
        raise WorkflowError(
            f"{module!r} is no module that can be imported.", hint="Give its name, such as comfy_nodes."
        )
    return _Program(nodes, titles, Signatures(object_info), module).source()


class _Program:
    """The program while it is written, node by node, each after those that it takes from."""

    def __init__(self, nodes: Nodes, titles: Mapping[str, str], signatures: Signatures, module: str) -> None:
        self.nodes = nodes
        self.titles = titles
        classes = {node.class_type for node in nodes.values()} & signatures.keys()
        self.signatures = {name: signatures[name] for name in classes}
        self.module = module
        self.imported: dict[str, set[str]] = {}
        functions = {signature.python for signature in self.signatures.values()}
        self.names = Names(functions | BUILTINS | _OWN_NAMES)
        self.variables: dict[str, str] = {}
        self.types: dict[tuple[str, int], str | None] = {}

    def source(self) -> str:
        """All of it."""
        self._need("async_comfy", "Workflow")
        made = [self._assigned(self.nodes[key]) for key in in_order(self.nodes)]
        used = {value[0] for node in self.nodes.values() for value in node.inputs.values() if is_link(value)}
        ends = [variable for key, variable in self.variables.items() if key not in used]
        made.append(block("workflow = Workflow.of(", ends, ")"))
        imports = [_imported(module, sorted(names)) for module, names in self._imports()]
        return "\n".join([*imports, "", *made, ""])

    def _imports(self) -> Iterable[tuple[str, set[str]]]:
        return sorted(self.imported.items(), key=lambda item: (item[0] == self.module, item[0]))

    def _need(self, module: str, name: str) -> None:
        self.imported.setdefault(module, set()).add(name)

    def runtime(self, name: str) -> str:
        """A name of the authoring package, imported."""
        self._need("async_comfy.workflow.authoring", name)
        return name

    def _assigned(self, node: NodeView) -> str:
        signature = self.signatures.get(node.class_type)
        call = self._typed(node, signature) if signature is not None else self._new_node(node)
        wanted = snake(node.title[:LONGEST_NAME]) or snake(node.class_type[:LONGEST_NAME]) or "node"
        self.variables[node.id] = self.names.give(wanted)
        return f"{self.variables[node.id]} = {call}"

    def _new_node(self, node: NodeView) -> str:
        """A node of a class that nobody declared."""
        inputs = [f"{text(name)}: {self.value(value, 2)}" for name, value in node.inputs.items()]
        arguments = [text(node.class_type), block("{", inputs, "}", 1), *self._own(node, "")]
        return block(f"{self.runtime('NewNode')}(", arguments, ")")

    def _own(self, node: NodeView, mark: str) -> Iterator[str]:
        yield f"{mark}id={text(node.id)}"
        if node.id in self.titles:
            yield f"{mark}title={text(self.titles[node.id])}"

    def _typed(self, node: NodeView, signature: Signature) -> str:
        self._need(self.module, signature.python)
        call = _Call(self, node, signature)
        return block(f"{signature.python}(", [*call.arguments(), *self._own(node, "_")], ")")

    def value(self, value: Any, depth: int) -> str:
        """A value or a link that needs no type."""
        if is_link(value) and value[0] in self.nodes:
            return self.reference(value)
        if isinstance(value, File):
            return self._file(value, depth)
        return literal(value, depth)

    def _file(self, file: File, depth: int) -> str:
        if file.kind in ("bytes", "image"):
            raise WorkflowError(
                f"{file!r} cannot be written as Python.", hint="Save it, and put its path into the workflow."
            )
        self._need("async_comfy", "File")
        options = {
            "name": file.name,
            "folder": file.folder if file.folder != "input" else None,
            "subfolder": file.subfolder or None,
        }
        more = [f"{name}={text(value)}" for name, value in options.items() if value is not None]
        return _call("File", [text(os.fspath(file.value)), *more], depth)

    def reference(self, link: Any) -> str:
        """An output of a node that is there, as its variable says it."""
        key, slot = link
        variable = self.variables[key]
        signature = self.signatures.get(self.nodes[key].class_type)
        outputs = signature.outputs if signature is not None else []
        if 0 <= slot < len(outputs):
            return variable if len(outputs) == 1 else f"{variable}.{outputs[slot].python}"
        if not outputs:
            return f"{variable}[{slot}]"
        return f"{variable if len(outputs) == 1 else f'{variable}[0]'}.node[{slot}]"


def _call(function: str, arguments: list[str], depth: int) -> str:
    """A call inside of a line: on that line where it is short."""
    line = f"{function}({', '.join(arguments)})"
    return line if len(line) <= SHORT and "\n" not in line else block(f"{function}(", arguments, ")", depth)


def _imported(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    return block(f"from {module} import (", names, ")") if too_long(line) else line


class _Call:
    """The arguments of one node's function."""

    def __init__(self, program: _Program, node: NodeView, signature: Signature) -> None:
        self.program = program
        self.node = node
        self.signature = signature
        self.rest = dict(node.inputs)
        self.given: dict[str, set[str | None]] = {}

    def arguments(self) -> list[str]:
        """What the node holds, in the order of the function; and what its function would add is left out."""
        lines = [line for one in self.signature.parameters for line in self._argument(one)]
        if self.rest:
            more = [f"{text(name)}: {self.program.value(value, 2)}" for name, value in self.rest.items()]
            lines.append(f"_more={block('{', more, '}', 1)}")
        for slot, output in enumerate(self.signature.outputs):
            self.program.types[self.node.id, slot] = self._type_of(output.kind)
        return lines

    def _argument(self, parameter: Parameter) -> Iterator[str]:
        if parameter.grown is not None:
            said = self._grown(parameter)
        elif parameter.name in self.rest:
            said = self._expression(parameter, self.rest.pop(parameter.name), 1)
        else:
            said = None
        if said is not None:
            yield f"{parameter.python}={said}"
        elif self._would_be_there(parameter):
            yield f"{parameter.python}={self.program.runtime('OMITTED')}"

    def _grown(self, parameter: Parameter) -> str | None:
        """A list where the items are the first ones, else an object."""
        start = f"{parameter.name}."
        items = {
            name[len(start) :]: value for name, value in self.rest.items() if self._grows(parameter, name)
        }
        if not items:
            return None
        for key in items:
            del self.rest[start + key]
        first = (parameter.grown or [])[: len(items)]
        if set(first) == items.keys():
            return block("[", [self._expression(parameter, items[key], 2) for key in first], "]", 1)
        pairs = [f"{text(key)}: {self._expression(parameter, item, 2)}" for key, item in items.items()]
        return block("{", pairs, "}", 1)

    def _grows(self, parameter: Parameter, name: str) -> bool:
        declared = {one.name for one in self.signature.parameters}
        return name.startswith(f"{parameter.name}.") and name not in declared

    def _expression(self, parameter: Parameter, value: Any, depth: int) -> str:
        """The value; marked where a type checker would object."""
        program = self.program
        linked = is_link(value) and value[0] in program.nodes
        if self._fits(parameter.kind, value) if linked else parameter.kind.holds(value):
            return program.value(value, depth)
        return _call(program.runtime("untyped"), [program.value(value, depth + 1)], depth)

    def _fits(self, kind: Kind, link: Any) -> bool:
        """Whether the output may go there; of those that must be of one type the first one decides."""
        given = self.program.types.get((link[0], link[1]))
        fits = kind.takes(given)
        if kind.template is not None:
            seen = self.given.setdefault(kind.template, set())
            fits = fits and (given is None or not seen - {None, given})
            seen.add(given)
        return fits

    def _type_of(self, kind: Kind) -> str | None:
        if kind.template is None:
            return kind.sockets[0] if kind.sockets else None
        seen = self.given.get(kind.template, set())
        return next(iter(seen)) if len(seen) == 1 else None

    def _would_be_there(self, parameter: Parameter) -> bool:
        """Whether the function puts something there, or wants something, that the file does not have."""
        if parameter.default is not Stands.DEFAULT:
            return parameter.default is not Stands.OMITTED
        chosen = [
            table[value]
            for name, table in self.signature.options.items()
            if isinstance(value := self.node.inputs.get(name), str | int) and value in table
        ]
        return parameter.name in self.signature.defaults or any(parameter.name in one for one in chosen)


def in_order(nodes: Nodes) -> list[str]:
    """Ids, each after those that it takes from, otherwise in the order of the file; without recursion.

    Raises: `WorkflowError` for nodes in a circle.
    """
    done: dict[str, None] = {}
    for start in nodes:
        road: dict[str, Iterator[str]] = {} if start in done else {start: _sources(nodes, start)}
        while road:
            key, sources = next(reversed(road.items()))
            waiting = next((source for source in sources if source not in done), None)
            if waiting is None:
                done[key] = None
                del road[key]
            elif waiting in road:
                raise WorkflowError(
                    "takes from itself, through other nodes or directly.",
                    place=f"node {waiting} ({nodes[waiting].class_type})",
                    hint="No server runs such a workflow: take one of the links out.",
                )
            else:
                road[waiting] = _sources(nodes, waiting)
    return list(done)


def _sources(nodes: Nodes, key: str) -> Iterator[str]:
    return (value[0] for value in nodes[key].inputs.values() if is_link(value) and value[0] in nodes)
