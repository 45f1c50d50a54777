"""The arrows of the house: vocabulary <- protocol <- _live <- surfaces. Read from the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import async_comfy

ROOT = Path(async_comfy.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
VOCABULARY = {"errors", "events", "results", "filenames", "workflow"}
SURFACES = {"testing", "cli", "__init__", "__main__"}
ALLOWED = {
    **dict.fromkeys(VOCABULARY, VOCABULARY),
    "protocol": {"protocol", *VOCABULARY},
    "_live": {"_live", "protocol", *VOCABULARY},
    "testing": {"testing", *VOCABULARY},  # a server: with our own protocol inside it would prove nothing
    "__init__": {"_live", *VOCABULARY},
    "__main__": {"cli"},
}
IMPURE = {
    "aiohttp",
    "anyio",
    "asyncio",
    "concurrent",
    "datetime",
    "http",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "trio",
    "urllib",
    "uuid",
    "websockets",
}
VAGUE = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}


def room_of(module: Path) -> str:
    """The first name below the package: a package's, or a lone module's."""
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(module: Path) -> Iterator[str]:
    """Full names of what it imports, wherever in the file, but not what it imports for types alone."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    unseen = {id(node) for guard in guards(tree) for node in ast.walk(guard)}
    here = ("async_comfy", *module.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in unseen:
            origin = (
                ".".join((*here[: len(here) - node.level + 1], node.module or ""))
                if node.level
                else node.module
            )
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def guards(tree: ast.AST) -> Iterator[ast.If]:
    """The blocks that only type checkers read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield node


def rooms_imported(module: Path) -> set[str]:
    """Our own rooms that a module imports from; "" for the public names themselves."""
    found = set()
    for name in imports_of(module):
        first, *rest = name.split(".")
        if first == "async_comfy":
            inner = rest[0] if rest else ""
            found.add(inner if (ROOT / inner).is_dir() or (ROOT / f"{inner}.py").is_file() else "")
    return found


def named(module: Path) -> str:
    return str(module.relative_to(ROOT))


def test_every_module_belongs_to_a_room_that_this_test_knows() -> None:
    assert {room_of(module) for module in MODULES} <= VOCABULARY | {"protocol", "_live"} | SURFACES


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in ALLOWED], ids=named)
def test_no_arrow_runs_back(module: Path) -> None:
    assert rooms_imported(module) <= ALLOWED[room_of(module)]


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "cli"], ids=named)
def test_the_command_line_uses_public_names_only(module: Path) -> None:
    """What it takes from `async_comfy` itself is in `__all__`; from other rooms it takes no private name."""
    for name in imports_of(module):
        parts = name.split(".")
        if parts[0] != "async_comfy" or parts[1:2] == ["cli"]:
            continue
        assert not any(part.startswith("_") and part != "__version__" for part in parts)
        assert parts[1] not in {"protocol", "_live"}
        if len(parts) == 2 and not (ROOT / parts[1]).is_dir() and not (ROOT / f"{parts[1]}.py").is_file():
            assert parts[1] in {*async_comfy.__all__, "__version__"}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "protocol"], ids=named)
def test_the_pure_room_touches_no_clock_socket_chance_or_loop(module: Path) -> None:
    assert {name.partition(".")[0] for name in imports_of(module)} & IMPURE == set()
    tree = ast.parse(module.read_text(encoding="utf-8"))
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not any(isinstance(node, asynchronous) for node in ast.walk(tree))


def test_no_module_is_named_for_what_it_does_not_say() -> None:
    assert {module.stem for module in MODULES} & VAGUE == set()
    assert {module.parent.name for module in MODULES} & VAGUE == set()


def test_the_public_names_are_there() -> None:
    assert len(set(async_comfy.__all__)) == len(async_comfy.__all__)
    assert all(hasattr(async_comfy, name) for name in async_comfy.__all__)
