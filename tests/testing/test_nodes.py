"""Image nodes really run; diffusion nodes are played; any declared class is accepted."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from async_comfy.testing import Node, SimulatedServer
from async_comfy.testing.nodes import core
from async_comfy.testing.nodes.node import INT
from tests.testing.client import FLAGS, Client, kinds, node, only

pytestmark = pytest.mark.anyio


def picture(server: SimulatedServer, name: str = "x_00001_.png") -> Image.Image:
    with Image.open(server.folders["output"] / name) as saved:
        return saved.convert("RGB")


def save(source: str) -> dict[str, Any]:
    return node("SaveImage", images=[source, 0], filename_prefix="x")


def sdxl(text: str = "a red fox in snow", seed: int = 1, steps: int = 4, batch: int = 1) -> dict[str, Any]:
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors"),
        "5": node("EmptyLatentImage", width=128, height=96, batch_size=batch),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "3": node(
            "KSampler",
            model=["4", 0],
            seed=seed,
            steps=steps,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            denoise=1.0,
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": save("8"),
    }


def flux() -> dict[str, Any]:
    return {
        "1": node("UNETLoader", unet_name="flux1-schnell.safetensors", weight_dtype="default"),
        "2": node(
            "DualCLIPLoader",
            clip_name1="clip_l.safetensors",
            clip_name2="t5xxl_fp16.safetensors",
            type="flux",
        ),
        "3": node("VAELoader", vae_name="ae.safetensors"),
        "4": node("CLIPTextEncode", text="a lake at dawn", clip=["2", 0]),
        "5": node("FluxGuidance", conditioning=["4", 0], guidance=3.5),
        "6": node("ModelSamplingFlux", model=["1", 0], max_shift=1.15, base_shift=0.5, width=128, height=128),
        "7": node("BasicGuider", model=["6", 0], conditioning=["5", 0]),
        "8": node("RandomNoise", noise_seed=3),
        "9": node("KSamplerSelect", sampler_name="euler"),
        "10": node("BasicScheduler", model=["6", 0], scheduler="simple", steps=4, denoise=1.0),
        "11": node("EmptySD3LatentImage", width=128, height=128, batch_size=1),
        "12": node(
            "SamplerCustomAdvanced",
            noise=["8", 0],
            guider=["7", 0],
            sampler=["9", 0],
            sigmas=["10", 0],
            latent_image=["11", 0],
        ),
        "13": node("VAEDecode", samples=["12", 0], vae=["3", 0]),
        "14": save("13"),
    }


async def test_image_nodes_make_what_they_say() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        empty = node("EmptyImage", width=40, height=20, batch_size=1, color=0xFF0000)
        prompt = {
            "1": empty,
            "2": node("ImageInvert", image=["1", 0]),
            "3": node(
                "ImageScale", image=["2", 0], upscale_method="lanczos", width=10, height=0, crop="disabled"
            ),
            "4": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.5, blend_mode="normal"),
            "5": node("SaveImage", images=["3", 0], filename_prefix="small"),
            "6": node("SaveImage", images=["4", 0], filename_prefix="mixed"),
            "7": node("GetImageSize", image=["3", 0]),
            "8": node("PreviewAny", source=["7", 1]),
        }
        await client.connect()
        frames = await client.run(prompt)
        small, mixed = picture(server, "small_00001_.png"), picture(server, "mixed_00001_.png")
        assert (small.size, small.getpixel((0, 0))) == ((10, 5), (0, 255, 255))
        assert mixed.getpixel((0, 0)) == (127, 127, 127)
        assert {"node": "8", "text": ["5"]} in [
            {"node": data["node"], **data["output"]} for data in only(frames, "executed")
        ]


async def test_images_over_the_socket_are_whole_and_leave_nothing_behind() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect(FLAGS)
        prompt = {
            "1": node("EmptyImage", width=700, height=8, batch_size=3, color=255),
            "2": node("SaveImageWebsocket", images=["1", 0]),
        }
        frames = await client.run(prompt)
        sent = [frame for frame in frames if isinstance(frame, bytes)]
        assert len(sent) == 3
        with Image.open(__import__("io").BytesIO(sent[0][sent[0].index(b"\x89PNG") :])) as first:
            assert first.size == (700, 8)
        assert not list(server.folders["output"].iterdir())
        assert "executed" not in kinds(frames)


async def test_the_same_seed_and_text_make_the_same_picture_and_others_another() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        for prompt in (sdxl(), sdxl(), sdxl(seed=2), sdxl("a calm ocean")):
            server.free()
            await client.post(prompt)
            await server.until_idle()
        one, same, *others = (picture(server, f"x_0000{number}_.png").tobytes() for number in (1, 2, 3, 4))
        assert one == same
        assert one not in others


async def test_a_sampler_shows_each_step_and_its_previews_come_closer_to_the_picture() -> None:
    from io import BytesIO

    async with SimulatedServer() as server, Client(server) as client:
        await client.connect(FLAGS)
        frames = await client.run(sdxl(steps=5))
        assert [data["value"] for data in only(frames, "progress")] == [1, 2, 3, 4, 5]
        previews = [frame for frame in frames if isinstance(frame, bytes)]
        final = picture(server)
        far = []
        for preview in previews:
            with Image.open(BytesIO(preview[preview.index(b"\xff\xd8\xff") :])) as shown:
                assert max(shown.size) <= 512
                far.append(distance(shown.convert("RGB"), final))
        assert len(far) == 5
        assert far == sorted(far, reverse=True)


def distance(one: Image.Image, other: Image.Image) -> float:
    from PIL import ImageChops

    small = (32, 24)
    difference = ImageChops.difference(one.resize(small), other.resize(small))
    return sum(ImageStat.Stat(difference).mean)


async def test_without_previews_no_binary_frame_comes() -> None:
    async with SimulatedServer(preview=False) as server, Client(server) as client:
        await client.connect(FLAGS)
        assert not any(isinstance(frame, bytes) for frame in await client.run(sdxl()))
        asked = await client.run(sdxl(seed=5), extra_data={"preview_method": "latent2rgb"})
        assert any(isinstance(frame, bytes) for frame in asked)


async def test_a_batch_is_as_many_pictures() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        images = only(await client.run(sdxl(batch=3)), "executed")[0]["output"]["images"]
        assert len({picture(server, image["filename"]).tobytes() for image in images}) == 3


async def test_a_flux_workflow_runs() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        frames = await client.run(flux())
        assert only(frames, "execution_success")
        assert picture(server).size == (128, 128)


async def test_any_class_of_an_object_info_is_accepted_checked_and_played(tmp_path: Path) -> None:
    upscale = {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "strength": ["FLOAT", {"min": 0.0, "max": 1.0}],
                "mode": ["COMBO", {"options": ["a"]}],
            }
        },
        "output": ["IMAGE", "WANVIDEO"],
        "output_node": False,
    }
    combine = {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output": [],
        "output_node": True,
    }
    source = tmp_path / "info.json"
    source.write_text(json.dumps({"FancyUpscale": upscale, "FancyCombine": combine}))
    async with SimulatedServer(object_info=source) as server, Client(server) as client:
        await client.connect()
        prompt = {
            "1": node("EmptyImage", width=8, height=8, batch_size=1, color=7),
            "2": node("FancyUpscale", image=["1", 0], strength=0.5, mode="a"),
            "3": node("FancyCombine", images=["2", 0], filename_prefix="fancy"),
        }
        frames = await client.run(prompt)
        assert only(frames, "executed")[0]["output"]["images"][0]["filename"] == "fancy_00001_.png"
        prompt["2"]["inputs"].update(strength=5.0, mode="b")
        errors = (await client.json("POST", "/prompt", prompt=prompt))["node_errors"]["2"]["errors"]
        assert [error["type"] for error in errors] == ["value_bigger_than_max", "value_not_in_list"]
        assert (await client.json("GET", "/object_info/FancyUpscale"))["FancyUpscale"]["output"] == [
            "IMAGE",
            "WANVIDEO",
        ]


async def test_a_test_can_bring_a_node_class_of_its_own() -> None:
    async def double(call: Any, value: int) -> tuple[int]:
        return (value * 2,)

    mine = Node("Double", double, {"value": INT(0, 0, 100)}, outputs=("INT",))
    async with SimulatedServer(nodes=[mine]) as server, Client(server) as client:
        await client.connect()
        frames = await client.run({"1": node("Double", value=21), "2": node("PreviewAny", source=["1", 0])})
        assert only(frames, "executed")[0]["output"] == {"text": ["42"]}


async def test_a_full_memory_fails_as_torch_does_and_unloads() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.worker.loaded.add("model")
        prompt = {
            "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "2": node("ProbeOOM", image=["1", 0]),
            "3": save("2"),
        }
        error = only(await client.run(prompt), "execution_error")[0]
        assert error["exception_type"] == "torch.OutOfMemoryError"
        assert "(out of memory)\n" in error["exception_message"]
        assert server.worker.loaded == set()


@pytest.mark.parametrize("declared", list(core()), ids=lambda declared: declared.name)
def test_declarations_agree_with_themselves(declared: Node) -> None:
    """A default lies within its own bounds, and as many names as outputs."""
    for name, spec in declared.inputs.items():
        options = spec[1] if len(spec) > 1 else {}
        if "default" in options and "min" in options:
            assert options["min"] <= options["default"] <= options["max"], name
        if isinstance(spec[0], list):
            assert options.get("default", spec[0][0]) in spec[0]
    info = declared.info()
    assert len(info["output"]) == len(info["output_name"]) == len(info["output_is_list"])
    assert json.loads(json.dumps(info)) == info


async def test_dynamic_inputs_of_newer_declarations_are_played() -> None:
    """Inputs that come to be when they are used (``images.image0``) stand for the one that is declared."""
    info = {
        "Batch": {
            "input": {"required": {"images": ["COMFY_AUTOGROW_V3", {}]}},
            "output": ["COMFY_MATCHTYPE_V3"],
        }
    }
    async with SimulatedServer(object_info=info) as server, Client(server) as client:
        await client.connect()
        image = node("EmptyImage", width=8, height=8, batch_size=1, color=255)
        prompt = {
            "1": image,
            "2": {"class_type": "Batch", "inputs": {"images.image0": ["1", 0]}},
            "3": save("2"),
        }
        assert only(await client.run(prompt), "execution_success")
        assert picture(server).getpixel((0, 0)) == (0, 0, 255)
        prompt["2"]["inputs"] = {}
        errors = (await client.json("POST", "/prompt", prompt=prompt))["node_errors"]["2"]["errors"]
        assert [error["type"] for error in errors] == ["required_input_missing"]


async def test_a_known_class_of_an_object_info_runs_with_the_choices_of_its_server() -> None:
    theirs = {"required": {"ckpt_name": [["theirs.safetensors"], {}], "new_switch": ["BOOLEAN", {}]}}
    info = {"CheckpointLoaderSimple": {"input": theirs, "output": ["MODEL", "CLIP", "VAE"]}}
    async with SimulatedServer(object_info=info) as server, Client(server) as client:
        await client.connect()
        prompt = sdxl()
        prompt["4"] = node("CheckpointLoaderSimple", ckpt_name="theirs.safetensors", new_switch=True)
        assert only(await client.run(prompt), "execution_success")
        prompt["4"]["inputs"]["ckpt_name"] = "sd_xl_base_1.0.safetensors"
        assert await client.status("POST", "/prompt", json={"prompt": prompt}) == 400


async def test_a_loop_of_links_is_named_by_newer_servers_only() -> None:
    loop = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("PreviewImage", images=["1", 0]),
    }
    for profile, named in (("0.33", {"1", "2"}), ("0.3.40", set())):
        async with SimulatedServer(profile=profile) as server, Client(server) as client:
            refused = await client.json("POST", "/prompt", prompt=loop)
            assert refused["error"]["type"] == "prompt_outputs_failed_validation"
            assert set(refused["node_errors"]) == named
