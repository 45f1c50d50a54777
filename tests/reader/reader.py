"""Goes through one page from top to bottom and does what it says."""

import configparser
import json
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from IPython.core.interactiveshell import InteractiveShell

from async_comfy import Fleet, Pool, Session, Workflow
from async_comfy.testing import SimulatedServer
from tests.reader.page import Block
from tests.reader.python import Interpreter, names_used
from tests.reader.shell import SERVING, Shell

EXAMPLE = "docs/examples/sdxl_text_to_image.json"
FEWER = {
    "range(1000)": "range(3)",
    "range(20)": "range(2)",
    "range(1, 21)": "range(2)",
    "--count 100": "--count 3",
}
NOTEBOOKS = {"docs/notebooks.md"}
GIVEN = {"docs/pool.md": ("workflow", "workflows", "urls", "user_id")}  # names that a page says it leaves out
ENDLESS = {
    "docs/rest.md": {"look_around": "log_is_followed"}
}  # functions that go on until they are cancelled
NOT_READ = {
    "text": "a picture made of letters, or what something says: nothing that a program takes",
    "mermaid": "drawn by a script in the reader's browser",
}


class Reader:
    """Has the files that a page takes for granted, and two servers, `comfy` and a second one."""

    def __init__(self, blocks: list[Block], folder: Path) -> None:
        self._page = blocks[0].page
        self._used = names_used(blocks)
        self.folder = folder
        self._stack = ExitStack()
        self._app = ""  # where the page's own web app was started
        self._written = ""  # the program that was written down and not started yet

    def __enter__(self) -> Self:
        self._comfy, other = [self._stack.enter_context(SimulatedServer().in_thread()) for _ in "ab"]
        self._second = other.url
        self.shell = self._stack.enter_context(Shell(self.folder, self._comfy))
        self.program = self._stack.enter_context(
            Interpreter(
                {name: self._given(name) for name in GIVEN.get(self._page, ())},
                self._give,
                {name: getattr(self, ending) for name, ending in ENDLESS.get(self._page, {}).items()},
            )
        )
        self._notebook = InteractiveShell.instance() if self._page in NOTEBOOKS else None
        self._stack.callback(InteractiveShell.clear_instance)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def do(self, block: Block) -> None:
        """Runs it, or has it read by what reads such things."""
        if block.language not in NOT_READ:
            READS[block.language](self, block)

    def closed(self) -> None:
        """At the end of the page."""
        assert not self._written, f"{self._page} does not say how to start {self._written}"

    async def log_is_followed(self) -> None:
        """Returns once somebody listens to the log of the server."""
        await self._comfy.until(lambda: self._comfy.logs.listeners)

    def _here(self, text: str) -> str:
        """The text with the test's own addresses, and with fewer rounds."""
        places = {
            "http://127.0.0.1:8188": self._comfy.url,
            "http://gpu1:8188": self._comfy.url,
            "http://gpu2:8188": self._second,
            "gpu2:8188": self._second.removeprefix("http://"),
            'f"http://gpu{number}:8188"': f"{[self._comfy.url, self._second]}[number]",
            "Session()": f"Session({self._comfy.url!r})",
            "--port 8188": "--port 0",
            "http://127.0.0.1:8000": self._app or "http://127.0.0.1:8000",
            "port=8000": "port=0",
        }
        for there, here in {**places, **FEWER}.items():
            text = text.replace(there, here)
        return text

    def python(self, block: Block) -> None:
        """What has the name of a file is written there, for the command that starts it; all else runs."""
        code = self._here(block.code)
        if block.file:
            self.closed()
            self._written = block.file
            (self.folder / block.file).write_text(code)
        elif self._notebook is not None:
            self.program.cell(block, code, self._notebook)
        else:
            self.program.run(block, code, self._used)

    def console(self, block: Block) -> None:
        """Each command."""
        assert block.commands(), f"{block.place}: no line begins with $"
        for command in block.commands():
            said = self.shell.run(self._here(command))
            if self._written and self._written.removesuffix(".py") in command:
                self._written = ""
            if SERVING.search(command):
                self._app = said

    def toml(self, block: Block) -> None:
        """A fleet, or the profiles of the command line."""
        document = tomllib.loads(self._here(block.code))
        if block.file:
            (self.folder / block.file).write_text(self._here(block.code))
        if "server" in document:
            assert Fleet.read(document).servers
        else:
            assert "servers" in document, f"{block.place}: nothing reads this"
            file = self.folder / ".config/async-comfy/config.toml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code)
            self.shell.run("async-comfy profiles list")

    def csv(self, block: Block) -> None:
        """A table for a command."""
        (self.folder / block.file).write_text(block.code)

    def json(self, block: Block) -> None:
        """Any."""
        json.loads(block.code)

    def yaml(self, block: Block) -> None:
        """It has values; what they mean, the program says that they are for."""
        assert yaml.safe_load(block.code)

    def ini(self, block: Block) -> None:
        """Sections with values, as systemd's units."""
        units = configparser.ConfigParser(strict=False, interpolation=None)
        units.read_string(block.code)
        assert units.sections()

    def proxy(self, block: Block) -> None:
        """Tried by tests/examples/test_proxies.py, with the proxies themselves."""
        assert block.page == "docs/proxy.md"

    def _given(self, name: str) -> Any:
        """A name that needs no waiting."""
        example = Workflow.load(EXAMPLE)
        given: dict[str, Callable[[], Any]] = {
            "workflow": lambda: example,
            "workflows": lambda: [example.with_seed(seed) for seed in range(3)],
            "prompt": example.to_api,
            "url": lambda: self._comfy.url,
            "path": lambda: "ui.json",
            "urls": lambda: [self._comfy.url, self._second],
            "user_id": lambda: "ada",
            "ui": lambda: Path("ui.json"),
            "object_info": lambda: Path("object_info.json"),
        }
        return given[name]()

    async def _give(self, name: str, stack: AsyncExitStack) -> Any:
        """An argument, by the name of its parameter."""
        if name == "comfy_server":  # the fixture: a fresh server for each test
            return self._stack.enter_context(SimulatedServer().in_thread())
        if name == "pool":
            return await stack.enter_async_context(Pool([self._comfy.url, self._second]))
        if name not in {"session", "job", "result"}:
            return self._given(name)
        session = await stack.enter_async_context(Session(self._comfy.url))
        if name == "session":
            return session
        job = await session.submit(EXAMPLE)
        return job if name == "job" else await job


READS: dict[str, Callable[[Reader, Block], None]] = {
    "python": Reader.python,
    "console": Reader.console,
    "toml": Reader.toml,
    "csv": Reader.csv,
    "json": Reader.json,
    "yaml": Reader.yaml,
    "ini": Reader.ini,
    "nginx": Reader.proxy,
    "caddyfile": Reader.proxy,
}
