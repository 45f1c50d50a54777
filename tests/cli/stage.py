"""Everything that the examples of the help name: files here, files and jobs on a server, a fleet."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import click
from click.testing import CliRunner
from PIL import Image

from async_comfy.cli.commands import commands
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Ended
from tests.live.pictures import diffusion, picture

PROMPT_ID = "0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10"
TEMPLATE = "image_z_image_turbo"


def leaves(
    group: click.Group = commands, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def groups(group: click.Group = commands) -> Iterator[tuple[str, click.Group]]:
    """The commands that have commands."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield name, command


def examples(command: click.Command) -> list[str]:
    """The command lines of its help."""
    lines = [line.strip() for line in (command.epilog or "").splitlines()]
    return [line for line in lines if line.startswith("async-comfy ")]


LEAVES = dict(leaves())
GROUPS = dict(groups())


@dataclass(frozen=True)
class Stage:
    """A folder and two servers, set for any example."""

    folder: Path
    server: SimulatedServer
    other: SimulatedServer

    @property
    def env(self) -> dict[str, str]:
        """With the `async-comfy` of these tests first on the path, and the folder as home."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ASYNC_COMFY", "XDG"))
        }
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "ASYNC_COMFY_URL": self.server.url,
            "GPU1_TOKEN": "sesame",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }

    def set(self) -> None:
        """Puts everything in its place."""
        here = self.folder
        for name, workflow in (("workflow.json", examined()), ("edit.json", edited())):
            (here / name).write_text(json.dumps(workflow))
        (here / "workflows").mkdir()
        (here / "workflows/fox.json").write_text(json.dumps(picture().to_api()))
        (here / "params.csv").write_text("6.text,seed\na fox,1\na hare,2\n")
        (here / "fleet.toml").write_text(
            f'[[server]]\nname = "gpu1"\nurl = "{self.server.url}"\nlanes = ["batch"]\n'
            f'[[server]]\nname = "gpu2"\nurl = "{self.other.url}"\nlanes = ["batch"]\n'
            '[[lane]]\nname = "batch"\n'
        )
        (here / "key.txt").write_text("sesame\n")
        for name in ("fox.png", "mask.png"):
            Image.new("RGB", (8, 8), "#884400").save(here / name)
        (here / ".config/fish/completions").mkdir(parents=True)
        with urlopen(f"{self.server.url}/object_info") as answer:  # noqa: S310 - loopback
            (here / "object_info.json").write_bytes(answer.read())
        self._set_server()

    def _set_server(self) -> None:
        folders = self.server.folders
        root = folders.root
        for place, name in (("output/foxes", "fox_00001_.png"), ("input", "mask.png"), ("input", "fox.png")):
            (root / place).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "#884400").save(root / place / name)
        shelf = root / "custom_nodes/my_nodes/example_workflows"
        shelf.mkdir(parents=True)
        (shelf / "upscale.json").write_text(json.dumps(edited()))
        (root / "templates").mkdir()
        (root / f"templates/{TEMPLATE}.json").write_text(json.dumps(examined()))
        index = [{"templates": [{"name": TEMPLATE, "title": "Upscale", "description": "minimax video"}]}]
        (root / "templates/index.json").write_text(json.dumps(index))

    def finish_a_job(self) -> None:
        """The one of the examples, in the server's history; picture.png is what it made."""
        self.post()
        self.server.wait(lambda: self.server.queue_remaining == 0)
        made = sorted((self.server.folders.root / "output").glob("*.png"))
        (self.folder / "picture.png").write_bytes(made[0].read_bytes())

    def hold_a_job(self) -> None:
        """The one of the examples runs, and another one waits."""
        self.server.hold("step")
        self.post(seed=2)
        self.server.wait(lambda: self.server.at == "step")
        self.post(None, seed=3)

    def post(self, prompt_id: str | None = PROMPT_ID, seed: int = 1) -> None:
        """Submits a workflow, as the job of that id."""
        body: dict[str, Any] = {"prompt": examined(seed), "extra_data": {"extra_pnginfo": {}}}
        if prompt_id is not None:
            body["prompt_id"] = prompt_id
        head = {"Content-Type": "application/json"}
        request = Request(f"{self.server.url}/prompt", json.dumps(body).encode(), head)  # noqa: S310 - loopback
        urlopen(request).close()  # noqa: S310 - loopback

    def name_a_server(self) -> None:
        """Gpu1, as the examples call it."""
        file = self.folder / ".config/async-comfy/config.toml"
        file.parent.mkdir(parents=True)
        file.write_text(f'[servers.gpu1]\nurl = "{self.server.url}"\nbearer_env = "GPU1_TOKEN"\n')

    def here(self, line: str) -> str:
        """The line with our server's address in place of those that only an example has, and fewer runs."""
        line = re.sub(r"https?://(comfy\.example\.org/gpu1/|127\.0\.0\.1:8188)", self.server.url, line)
        return line.replace("--port 8188", "--port 0").replace("--count 100", "--count 3")

    def type(self, line: str) -> Ended:
        """A line without anything that a shell would have to do, in this process."""
        _, *words = shlex.split(self.here(line))
        environment = {**dict.fromkeys(os.environ), **self.env}
        ended = CliRunner().invoke(
            commands, words, env=environment, catch_exceptions=False, prog_name="async-comfy"
        )
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def play(self, line: str) -> "subprocess.Popen[str]":
        """Types a line into a shell."""
        return subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", self.here(line)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def examined(seed: int = 1) -> dict[str, Any]:
    """Text to image, with the prompt in node 6 as in the examples."""
    text = json.dumps(diffusion(seed, steps=2).to_api())
    for one, other in (("2", "@"), ("6", "2"), ("@", "6")):
        text = text.replace(f'["{one}", ', f'["{other}", ').replace(f'"{one}": {{', f'"{other}": {{')
    prompt: dict[str, Any] = json.loads(text)
    prompt["6"]["_meta"] = {"title": "Prompt"}
    return prompt


def edited() -> dict[str, Any]:
    """An image that is loaded, and saved again; node 1 loads it."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "fox.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "edited"}},
    }


def all_examples() -> Sequence[tuple[str, str]]:
    """Each line with the command whose help has it."""
    every = {**LEAVES, **GROUPS}
    return [(name, line) for name, command in every.items() for line in examples(command)]
