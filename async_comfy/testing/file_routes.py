"""What the server answers about files: /view and the uploads (ComfyUI server.py)."""

import asyncio
import io
import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from async_comfy.testing.files import KINDS, Outside

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer


class FileRoutes:
    """/view, /upload/image and /upload/mask of one server."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server

    def table(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/view", self.view),
            web.post("/upload/image", self.upload_image),
            web.post("/upload/mask", self.upload_mask),
        ]

    async def view(self, request: web.Request) -> web.StreamResponse:
        """GET /view: a file, of the output folder unless `type` says otherwise; whole, in part, converted."""
        query = request.query
        if "filename" not in query:
            return web.Response(status=404)
        name, kind = self.server.folders.annotated(query["filename"], "output")
        kind = query.get("type", kind)  # type: ignore[assignment]  # checked in the next line
        if not name or name.startswith("/") or ".." in name or kind not in KINDS:
            return web.Response(status=400)
        try:
            path = self.server.folders.within(kind, query.get("subfolder", ""), Path(name).name)
        except Outside:
            return web.Response(status=403)
        if not path.is_file():
            return web.Response(status=404)
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'filename="{path.name}"',
            "Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        }
        if "preview" in query or "channel" in query:
            return await self._converted(path, query.get("preview"), query.get("channel"), headers)
        return web.FileResponse(path, headers=headers)

    async def upload_image(self, request: web.Request) -> web.Response:
        """POST /upload/image: keeps the name for the same bytes, finds another for others."""
        return self._upload(await request.post(), lambda data, post: data)

    async def upload_mask(self, request: web.Request) -> web.Response:
        """POST /upload/mask: the alpha of what is sent, put onto the picture that `original_ref` names."""
        return self._upload(await request.post(), self._masked)

    def _upload(self, post: Any, make: Any) -> web.Response:
        image = post.get("image")
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        kind = post.get("type", "input")
        if kind not in KINDS:
            raise ValueError(f"no folder of type {kind!r}")  # 500 on the real server too
        subfolder = post.get("subfolder", "")
        try:
            path = self.server.folders.within(kind, subfolder, image.filename)
        except Outside:
            return web.Response(status=400)
        data = image.file.read()
        if post.get("overwrite") not in ("true", "1"):
            path = _free(path, data)
        made = make(data, post)
        path.parent.mkdir(parents=True, exist_ok=True)
        if made is not None:
            path.write_bytes(made)
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})

    def _masked(self, data: bytes, post: Any) -> bytes | None:
        from PIL import Image

        about = json.loads(post.get("original_ref"))
        original = self.server.folders.within(
            about.get("type", "output"), about.get("subfolder", ""), about["filename"]
        )
        if not original.is_file():
            return None  # the real server answers with a name all the same
        with Image.open(original) as picture, Image.open(io.BytesIO(data)) as mask:
            masked = picture.convert("RGBA")
            masked.putalpha(mask.convert("RGBA").getchannel("A"))
        return _encoded(masked, "PNG")

    async def _converted(
        self, path: Path, preview: str | None, channel: str | None, headers: dict[str, str]
    ) -> web.Response:
        form, quality = "PNG", 90
        if preview is not None:
            form, _, number = preview.partition(";")
            form = form.upper() if form in ("webp", "jpeg") else "WEBP"
            quality = int(number) if number.isdigit() else 90
        body = await asyncio.get_running_loop().run_in_executor(None, _convert, path, form, quality, channel)
        return web.Response(body=body, headers={**headers, "Content-Type": f"image/{form.lower()}"})


def _free(path: Path, data: bytes) -> Path:
    """The first of "name", "name (1)", "name (2)"... that is not taken by other bytes."""
    candidate, number = path, 0
    while candidate.exists() and candidate.read_bytes() != data:
        number += 1
        candidate = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return candidate


def _convert(path: Path, form: str, quality: int, channel: str | None) -> bytes:
    from PIL import Image

    with Image.open(path) as opened:
        picture: Image.Image = opened.convert("RGBA") if "A" in opened.getbands() else opened.convert("RGB")
    if channel == "rgb" or form == "JPEG":
        picture = picture.convert("RGB")
    elif channel == "a":
        alpha = picture.convert("RGBA").getchannel("A")
        picture = Image.new("RGBA", picture.size)
        picture.putalpha(alpha)
    return _encoded(picture, form, quality=quality)


def _encoded(picture: Any, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()
