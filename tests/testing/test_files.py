"""/view and the uploads keep files where they belong, whatever the names say."""

import io
import json
from typing import Any

import aiohttp
import pytest
from PIL import Image

from async_comfy.testing import SimulatedServer
from tests.testing.client import Client, node, only, tiny

pytestmark = pytest.mark.anyio


def png(color: str = "red", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (8, 8), color).save(out, "PNG")
    return out.getvalue()


async def upload(client: Client, data: bytes, name: str, path: str = "/upload/image", **fields: str) -> Any:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("image", data, filename=name)
    for key, value in fields.items():
        form.add_field(key, value)
    async with client.http.post(path, data=form) as answer:
        return await answer.json() if answer.status == 200 else answer.status


async def test_the_same_bytes_keep_their_name_and_others_get_a_number() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        red, blue = png("red"), png("blue")
        assert await upload(client, red, "a.png") == {"name": "a.png", "subfolder": "", "type": "input"}
        assert (await upload(client, red, "a.png"))["name"] == "a.png"
        assert (await upload(client, blue, "a.png"))["name"] == "a (1).png"
        assert (await upload(client, blue, "a.png"))["name"] == "a (1).png"
        assert (await upload(client, blue, "a.png", overwrite="true"))["name"] == "a.png"
        assert (await upload(client, red, "a.png", subfolder="s1/s2"))["subfolder"] == "s1/s2"
        assert (await upload(client, red, "n ✓.png"))["name"] == "n ✓.png"
        assert (server.folders["input"] / "a.png").read_bytes() == blue


async def test_an_upload_cannot_leave_its_folder() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        assert await upload(client, b"x", "../evil.png") == 400
        assert await upload(client, b"x", "a.png", subfolder="../..") == 400
        assert await upload(client, b"x", "a.png", type="bogus") == 500
        assert await client.status("POST", "/upload/image", json={"a": 1}) == 400


async def test_a_mask_becomes_the_alpha_of_what_it_names() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await upload(client, png("red"), "a.png")
        mask = io.BytesIO()
        Image.new("RGBA", (8, 8), (0, 0, 0, 40)).save(mask, "PNG")
        about = json.dumps({"filename": "a.png", "type": "input"})
        told = await upload(client, mask.getvalue(), "m.png", "/upload/mask", original_ref=about)
        with Image.open(server.folders["input"] / told["name"]) as made:
            assert made.convert("RGBA").getpixel((0, 0)) == (255, 0, 0, 40)


async def test_view_gives_whole_files_and_parts_and_says_when_nothing_changed() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        images = only(await client.run(tiny(prefix="sub/dir/v")), "executed")[0]["output"]["images"]
        assert images == [{"filename": "v_00001_.png", "subfolder": "sub/dir", "type": "output"}]
        async with client.http.get("/view", params=images[0]) as answer:
            whole = await answer.read()
            tag = answer.headers["ETag"]
            assert answer.content_type == "image/png"
        async with client.http.get("/view", params=images[0], headers={"Range": "bytes=2-9"}) as part:
            assert (part.status, await part.read()) == (206, whole[2:10])
        assert await client.status("GET", "/view", params=images[0], headers={"If-None-Match": tag}) == 304
        with Image.open(io.BytesIO(whole)) as saved:
            assert json.loads(saved.text["prompt"]) == tiny(prefix="sub/dir/v")  # type: ignore[attr-defined]  # PNG files have it
        async with client.http.get("/view", params={**images[0], "preview": "webp;80"}) as converted:
            assert converted.content_type == "image/webp"


async def test_the_workflow_is_embedded_in_what_is_saved() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        extra = {"extra_pnginfo": {"workflow": {"id": "w", "nodes": []}}, "api_key_comfy_org": "hidden"}
        prompt_id = await client.post(tiny(), extra_data=extra)
        await server.until_idle()
        with Image.open(server.folders["output"] / "t_00001_.png") as saved:
            assert json.loads(saved.text["workflow"]) == {"id": "w", "nodes": []}  # type: ignore[attr-defined]  # as above
        assert "hidden" not in json.dumps(server.history(prompt_id))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 404),
        ({"filename": ""}, 400),
        ({"filename": "nope.png"}, 404),
        ({"filename": "../secret"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "a.png", "type": "bogus"}, 400),
        ({"filename": "a.png", "subfolder": "../../.."}, 403),
    ],
)
async def test_view_answers_bad_names_as_the_real_server_does(query: dict[str, str], status: int) -> None:
    async with SimulatedServer() as server, Client(server) as client:
        assert await client.status("GET", "/view", params=query) == status


async def test_what_is_uploaded_can_be_loaded_and_what_is_not_is_refused() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        await upload(client, png("blue"), "b.png")
        load = {
            "1": node("LoadImage", image="b.png"),
            "2": node("ImageInvert", image=["1", 0]),
            "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
        }
        await client.run(load)
        with Image.open(server.folders["output"] / "x_00001_.png") as saved:
            assert saved.getpixel((0, 0)) == (255, 255, 0)
        load["1"] = node("LoadImage", image="nope.png")
        refused = await client.json("POST", "/prompt", prompt=load)
        assert refused["node_errors"]["1"]["errors"][0]["type"] == "custom_validation_failed"
        info = await client.json("GET", "/object_info/LoadImage")
        assert info["LoadImage"]["input"]["required"]["image"][0] == ["b.png"]
