"""What a node may ask of its server while it runs."""

import asyncio
import io
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from async_comfy.testing.sockets import FORMATS, PREVIEW, PREVIEW_WITH_METADATA, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image

    from async_comfy.testing.files import Folders
    from async_comfy.testing.run import Run
    from async_comfy.testing.worker import Worker

Made = TypeVar("Made")

PROGRESS_EVERY_S = 0.1  # the real server skips steps that come faster, unless they carry a preview
PREVIEW_SIDE = 512  # pixels: larger previews are made smaller before they are sent
JPEG_QUALITY = 95  # as the real server compresses previews


@dataclass
class Call:
    """One turn of one node. `seed` inputs and the like are arguments; this is the server's side of it.

    The awaitable methods are for coroutine functions (they run on the server's loop); `say`, `show_text` and
    `folders` serve both kinds.
    """

    worker: "Worker"
    run: "Run"
    node_id: str
    index: int = 0
    loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)
    _told: float = 0.0

    @property
    def folders(self) -> "Folders":
        """The server's input, output and temp folders."""
        return self.worker.folders

    @property
    def temp_prefix(self) -> str:
        """The prefix of this node's temporary files: it keeps it for as long as prompts have such a node."""
        prefixes = self.worker.temp_prefixes
        if self.node_id not in prefixes:
            prefixes[self.node_id] = self.folders.temp_prefix()
        return prefixes[self.node_id]

    @property
    def prompt(self) -> dict[str, Any]:
        """The whole prompt in API format, as it is embedded in saved images."""
        return self.run.prompt.graph

    @property
    def pnginfo(self) -> Mapping[str, Any]:
        """`extra_pnginfo` of the prompt: what else is embedded in saved images (the UI workflow)."""
        return self.run.prompt.extra_data.get("extra_pnginfo") or {}

    @property
    def previews(self) -> bool:
        """Whether samplers show pictures in the making: the server's choice, or the prompt's."""
        method = self.run.prompt.extra_data.get("preview_method")
        return self.worker.settings.preview if method in (None, "default") else method != "none"

    async def think(self, make: Callable[..., Made], *args: Any) -> Made:
        """Runs `make` in the server's thread for nodes, and the loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self.worker.thread, make, *args)

    async def load(self, name: str) -> None:
        """Takes the time that loading a model takes, unless it is loaded."""
        if name not in self.worker.loaded:
            await self.pause(self.worker.settings.load_s)
            self.worker.loaded.add(name)

    async def pause(self, seconds: float, *, interruptible: bool = True) -> None:
        """Lets time pass. Raises: `Interrupted` when the run is interrupted meanwhile."""
        await self.worker.gate.pause(seconds, deaf=self.deaf or not interruptible)

    async def step(
        self,
        value: int,
        total: int,
        preview: "Image | None" = None,
        *,
        form: str = "JPEG",
        side: int | None = PREVIEW_SIDE,
    ) -> None:
        """Reports step `value` of `total`, with a picture if there is one. Raises: `Interrupted`."""
        await self.worker.gate.stand("step", deaf=self.deaf)
        if preview is None and self._too_soon(value, total):
            return
        image = None if preview is None else await self.think(encode, preview, form, side)
        self.run.progress.update(self.node_id, value, total)
        self._tell(value, total, image, form)

    def say(self, kind: str, data: Mapping[str, Any], *, everybody: bool = False) -> None:
        """Sends a message of the node's own type to the client of this prompt, or to everybody."""
        self.worker.on_loop(self.run.say, kind, data, everybody=everybody)

    def send(self, kind: int, body: bytes, *, everybody: bool = False) -> None:
        """Sends a binary frame of any kind."""
        self.worker.on_loop(self.run.show, kind, body, everybody=everybody)

    def show_text(self, text: str, *, everybody: bool = True) -> None:
        """Shows a line of text at the node (binary kind 3); to everybody, as core nodes do."""
        name = self.node_id.encode()
        self.send(TEXT, struct.pack(">I", len(name)) + name + text.encode(), everybody=everybody)

    def status(self) -> None:
        """Broadcasts `status` once more."""
        self.worker.on_loop(self.worker.sockets.status)

    @property
    def deaf(self) -> bool:
        """Whether the run may not be interrupted here."""
        return self.worker.faults.ignores_interrupts

    def _too_soon(self, value: int, total: int) -> bool:
        """Whether this step is skipped: not the last one, and the one before was told just now."""
        if not self.worker.profile.progress_state or value >= total:
            return False
        now = time.monotonic()
        if now - self._told < PROGRESS_EVERY_S:
            return True
        self._told = now
        return False

    def _tell(self, value: int, total: int, image: bytes | None, form: str) -> None:
        # Previews with metadata go before `progress`, those without after it: they are sent from two places.
        rich = self.worker.sockets.wants_metadata(self.run.prompt.client_id)
        if image is not None and rich:
            self.run.show(PREVIEW_WITH_METADATA, self._described(image, form))
        node = self.node_id if self.worker.profile.progress_state else self.run.graph.real(self.node_id)
        self.run.say(
            "progress", {"value": value, "max": total, "prompt_id": self.run.prompt.prompt_id, "node": node}
        )
        if image is not None and not rich:
            self.run.show(PREVIEW, struct.pack(">I", FORMATS[form]) + image)

    def _described(self, image: bytes, form: str) -> bytes:
        about = json.dumps(
            {
                "node_id": self.node_id,
                "prompt_id": self.run.prompt.prompt_id,
                **self.run.place(self.node_id),
                "image_type": f"image/{form.lower()}",
            }
        ).encode()
        return struct.pack(">I", len(about)) + about + image


def encode(image: "Image", form: str, side: int | None) -> bytes:
    """A picture as the bytes of a preview, made smaller where it is larger than `side`."""
    if side is not None and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    out = io.BytesIO()
    if form == "PNG":
        image.save(out, "PNG", compress_level=1)
    else:
        image.convert("RGB").save(out, form, quality=JPEG_QUALITY)
    return out.getvalue()
