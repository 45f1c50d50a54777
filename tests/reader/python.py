"""Python blocks: run one after the other in one place, as somebody who types them in."""

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from types import CodeType, TracebackType
from typing import Any, Self

from tests.reader.page import Block

Give = Callable[[str, AsyncExitStack], Any]
"""What a parameter of that name is given (or an awaitable of it); what has to be closed goes on the stack."""

WAITING = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Interpreter:
    """Runs blocks, then calls each function that they define and do not use themselves.

    `names`: what the page takes for granted. `give`: arguments by the names of parameters, as pytest does it.
    `endings`: for functions that go on for ever: what to wait for before they are cancelled.
    """

    def __init__(
        self, names: dict[str, Any], give: Give, endings: dict[str, Callable[[], Awaitable[None]]]
    ) -> None:
        self.names = {"__name__": "page", **names}
        self._give = give
        self._endings = endings
        self._runner = asyncio.Runner()
        self.returned: dict[str, list[Any]] = {}
        """What the functions of the page gave, each time they were called."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def run(self, block: Block, code: str, used: set[str]) -> None:
        """`code`: the block's, at addresses of the test. `used`: names that the page calls by itself."""
        tree = parsed(code, block.place)
        program = compile(tree, block.place, "exec", flags=WAITING, dont_inherit=True)
        assert isinstance(program, CodeType)
        if program.co_flags & inspect.CO_COROUTINE:
            self._runner.run(eval(program, self.names))  # noqa: S307  # our own page
        else:
            exec(program, self.names)  # noqa: S102  # our own page, which may call asyncio.run
        for function in functions(tree):
            if function.name not in used:
                self.call(function.name)

    def cell(self, block: Block, code: str, shell: Any) -> None:
        """The block as a cell of a notebook: IPython awaits what it has to."""
        cell = shell.run_cell_async(code, transformed_cell=shell.transform_cell(code))
        self._runner.run(cell).raise_error()

    def call(self, name: str, **said: Any) -> Any:
        """Calls a function of the page. `said`: arguments that are not the given ones."""
        function = self.names[name]
        if inspect.iscoroutinefunction(function):
            value = self._runner.run(self._awaited(name, function, said))
        else:  # outside the loop: it may call asyncio.run
            stack = AsyncExitStack()
            value = function(**self._runner.run(self._arguments(function, stack, said)))
            self._runner.run(stack.aclose())
        self.returned.setdefault(name, []).append(value)
        return value

    async def _awaited(self, name: str, function: Callable[..., Any], said: dict[str, Any]) -> Any:
        async with AsyncExitStack() as stack:
            running = asyncio.create_task(function(**await self._arguments(function, stack, said)))
            if name not in self._endings:
                return await running
            watching = asyncio.ensure_future(self._endings[name]())
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            if running.done():
                running.result()
                raise AssertionError(f"{name} ended by itself")
            running.cancel()
            await asyncio.wait([running])
            return None

    async def _arguments(
        self, function: Callable[..., Any], stack: AsyncExitStack, said: dict[str, Any]
    ) -> dict[str, Any]:
        given = dict(said)
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in given and parameter.default is parameter.empty:
                value = self._give(name, stack)
                given[name] = await value if inspect.isawaitable(value) else value
        return given


def parsed(code: str, place: str) -> ast.Module:
    """Its syntax tree; `await` may stand outside of functions."""
    tree = compile(code, place, "exec", flags=ast.PyCF_ONLY_AST | WAITING, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those that a block defines for its reader to call."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def names_used(blocks: Iterable[Block]) -> set[str]:
    """Every name that a page's Python reads."""
    return {
        node.id
        for block in blocks
        if block.language == "python"
        for node in ast.walk(parsed(block.code, block.place))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
