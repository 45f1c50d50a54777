"""Probe nodes: each makes the server say or do one particular thing, to watch a client at it."""

import asyncio
import json
import struct
import uuid
from typing import Any

from async_comfy.testing.call import Call
from async_comfy.testing.nodes.images import write
from async_comfy.testing.nodes.node import (
    BOOLEAN,
    CHOICE,
    INT,
    STRING,
    Blocked,
    Expanded,
    Node,
    OutOfMemoryError,
    Shown,
)
from async_comfy.testing.nodes.values import Images
from async_comfy.testing.sockets import PREVIEW, TEXT

LONG_MS = 600_000  # the longest that a probe may be told to take


class ProbeError(Exception):
    """An error of a class that no client knows."""


async def steps(
    call: Call,
    image: Images,
    steps: int,
    delay_ms: int,
    preview: bool,
    seed: int = 0,
    fmt: str = "JPEG",
    max_size: int = 512,
) -> tuple[Images]:
    """Reports so many steps, with or without previews."""
    for step in range(steps):
        await call.pause(delay_ms / 1000)
        await call.step(
            step + 1, steps, image.frames[0] if preview else None, form=fmt, side=max_size or None
        )
    return (image,)


async def sleep(
    call: Call, image: Images, ms: int, seed: int = 0, interruptible: bool = False
) -> tuple[Images]:
    """Takes its time. Where it is not interruptible, an interrupt waits for the next node."""
    await call.pause(ms / 1000, interruptible=interruptible)
    return (image,)


async def sleep_out(call: Call, image: Images, ms: int, seed: int = 0, interruptible: bool = False) -> Shown:
    """The same, as the last node of a prompt."""
    await call.pause(ms / 1000, interruptible=interruptible)
    return Shown({"text": ["slept"]})


def fail(call: Call, image: Images, message: str, kind: str = "ValueError", seed: int = 0) -> None:
    """Raises."""
    kinds = (ValueError, RuntimeError, KeyError, AssertionError, SystemExit, KeyboardInterrupt)
    raise {one.__name__: one for one in kinds}.get(kind, ProbeError)(message)


def out_of_memory(call: Call, image: Images, seed: int = 0) -> None:
    """Raises what a server raises whose VRAM is full."""
    raise OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")


async def show_text(call: Call, text: str, seed: int = 0) -> Shown:
    """Shows a text."""
    return Shown({"text": [text]}, (text,))


async def show_much(call: Call, kib: int, seed: int = 0) -> Shown:
    """Shows a text so long that its frame is large."""
    return Shown({"text": ["x" * (kib * 1024)]})


async def show_anything(call: Call, ui_json: str, seed: int = 0, evil: str = "no") -> Shown:
    """Shows what it is told to, or something that is no JSON: the end of a real server."""
    ui = json.loads(ui_json)
    if evil != "no":
        ui["value"] = [{"nan": float("nan")}.get(evil, b"abc")]
    return Shown(ui)


def media(call: Call, image: Images, seed: int = 0) -> Shown:
    """Shows files of every kind, each written: pictures, moving pictures, sound, video, 3D, text."""
    folder = call.folders.within("output", "probe")
    folder.mkdir(exist_ok=True)
    first = image.frames[0]
    first.save(folder / "anim.webp", save_all=True, append_images=[first, first], duration=100)
    first.save(folder / "g.gif", save_all=True, append_images=[first])
    for name, data in (
        ("a.flac", b"fLaC0000"),
        ("v.mp4", b"\0\0\0\x18ftypmp42"),
        ("m.glb", b"glTF"),
        ("l.latent", b"{}"),
    ):
        (folder / name).write_bytes(data)

    def told(name: str, **more: Any) -> dict[str, Any]:
        return {"filename": name, "subfolder": "probe", "type": "output", **more}

    gif = told("g.gif", format="image/gif", frame_rate=8.0, workflow="g.png", fullpath=str(folder / "g.gif"))
    return Shown(
        {
            "images": [told("anim.webp")],
            "animated": [True],
            "gifs": [gif],
            "audio": [told("a.flac")],
            "video": [told("v.mp4", format="video/mp4")],
            "3d": [told("m.glb")],
            "result": ["probe/m.glb", None, 3],
            "latents": [told("l.latent")],
            "text": ["tuple text"],
            "a_images": [],
            "tags": [["a", "b"]],
            "bg": [{"k": 1}],
        }
    )


async def expand(
    call: Call,
    image: Any,
    n: int,
    seed: int = 0,
    with_output: bool = False,
    fail: bool = False,
    delay_ms: int = 20,
) -> Expanded:
    """Becomes a chain of other nodes."""
    graph: dict[str, Any] = {}

    def node(class_type: str, **inputs: Any) -> list[Any]:
        name = f"{call.node_id}.{call.index}.0.{len(graph) + 1}"
        graph[name] = {"class_type": class_type, "inputs": inputs}
        return [name, 0]

    link = image
    for _ in range(n):
        link = node("ProbeSteps", image=link, steps=2, delay_ms=delay_ms, preview=False, seed=seed)
    if fail:
        link = node("ProbeFail", image=link, message="inner boom", seed=seed)
    if with_output:
        node("PreviewImage", images=link)
    return Expanded(graph, (link,))


async def choose(call: Call, use_a: bool, a: Any = None, b: Any = None, seed: int = 0) -> tuple[Any]:
    """Takes one of two lazy inputs; the other is never made."""
    return (a if use_a else b,)


async def block(call: Call, image: Images, message: str, seed: int = 0) -> tuple[Blocked]:
    """Keeps what is behind it from running."""
    return (Blocked(message or None),)


def unmade(call: Call, image: Images, seed: int = 0) -> None:
    """Raises before it does anything."""
    raise ValueError("ctor boom")


async def newer(call: Call, image: Images, mode: str, seed: int = 0) -> Shown:
    """A node as newer ones are written: its steps show in `progress_state` only."""
    for step in range(3):
        call.run.progress.update(call.node_id, step + 1, 3)
        await call.pause(0)
    return Shown(await call.think(preview, call, image), (image,))


def preview(call: Call, image: Images) -> Any:
    """What is shown of a picture."""
    return write(call, image, call.temp_prefix, "temp", 1)


async def progress_text(
    call: Call, image: Images, text: str, seed: int = 0, to_sid: bool = False
) -> tuple[Images]:
    """Shows three lines of text while it runs."""
    for number in range(3):
        call.show_text(f"{text} {number} é✓", everybody=not to_sid)
        await call.pause(0)
    return (image,)


async def many(call: Call, n: int, size: int, seed: int = 0) -> tuple[list[Any], list[str]]:
    """Lists of values: what is behind it runs once for each."""
    from PIL import Image

    shades = [Image.new("RGB", (size, size), (int(255 * index / max(1, n)),) * 3) for index in range(n)]
    return [Images((shade,)) for shade in shades], [f"t{index}" for index in range(n)]


async def burst(call: Call, image: Images, n: int, kind: str, seed: int = 0) -> tuple[Images]:
    """As many messages as fast as can be."""
    for number in range(n):
        if kind == "raw":
            call.say("probe_raw", {"i": number})
        else:
            await call.step(number + 1, n, image.frames[0] if kind == "preview" else None)
        if number % 100 == 0:
            await asyncio.sleep(0)
    return (image,)


async def custom(call: Call, image: Images, what: str, seed: int = 0) -> tuple[Images]:
    """Messages of other types than the core's, and ill-formed ones."""
    match what:
        case "broadcast":
            call.say("probe.custom", {"hello": "all"}, everybody=True)
        case "targeted":
            call.say("probe.custom", {"hello": "you"})
        case "binary99":
            call.send(99, b"payload")
        case "short_binary":
            call.send(PREVIEW, b"")
        case "png_preview":
            from async_comfy.testing.call import encode

            call.send(PREVIEW, struct.pack(">I", 2) + encode(image.frames[0], "PNG", None))
        case "nan":
            call.say("probe.nan", {"v": float("nan"), "i": float("inf")})
        case "executing_none":
            call.say("executing", {"node": None})
        case "surrogate":
            call.say("probe.sur", {"s": "\ud800x"})
        case "dup_status":
            call.status()
        case "text_badlen":
            call.send(TEXT, struct.pack(">I", 5000) + b"abc")
    await call.pause(0)
    return (image,)


async def always(call: Call, image: Images) -> tuple[Images]:
    """Runs in every prompt: its results are never taken from the cache."""
    return (image,)


def checked(catalog: Any, path: str) -> bool | str:
    """Says what is wrong with a value in words of its own."""
    if path == "raise":
        raise RuntimeError("validator blew up")
    return False if path == "false" else True if path == "ok" else f"path {path!r} is not ok"


def unwanted(use_a: bool, a: Any = None, b: Any = None, seed: int = 0) -> list[str]:
    """Which lazy input is needed."""
    return ["a"] if use_a and a is None else ["b"] if not use_a and b is None else []


async def through(call: Call, image: Images, path: str) -> tuple[Images]:
    """Hands on."""
    return (image,)


IMAGE = ["IMAGE"]
SEED = INT(0, 0, 2**63 - 1)
SEEDED = {"seed": SEED}
SLEEPY = {"seed": SEED, "interruptible": BOOLEAN()}
LAZY = ["IMAGE", {"lazy": True}]
ERRORS = [
    "ValueError",
    "RuntimeError",
    "KeyError",
    "AssertionError",
    "SystemExit",
    "KeyboardInterrupt",
    "custom",
]
MESSAGES = [
    "broadcast",
    "targeted",
    "binary99",
    "short_binary",
    "png_preview",
    "thread_progress",
    "nan",
    "executing_none",
    "surrogate",
    "dup_status",
    "text_badlen",
]


def probe(name: str, run: Any, required: Any, optional: Any = None, **more: Any) -> Node:
    """A probe that takes and gives pictures, unless it says otherwise."""
    settings = {"outputs": ("IMAGE",), "category": "probe", **more}
    return Node(name, run, required, SEEDED if optional is None else optional, **settings)


NODES = [
    probe(
        "ProbeSteps",
        steps,
        {
            "image": IMAGE,
            "steps": INT(10, 1, 1_000_000),
            "delay_ms": INT(50, 0, 60_000),
            "preview": BOOLEAN(True),
        },
        {"seed": SEED, "fmt": CHOICE(["JPEG", "PNG"], default="JPEG"), "max_size": INT(512, 0, 4096)},
    ),
    probe("ProbeSleep", sleep, {"image": IMAGE, "ms": INT(1000, 0, LONG_MS)}, SLEEPY),
    probe(
        "ProbeSleepOut",
        sleep_out,
        {"image": IMAGE, "ms": INT(1000, 0, LONG_MS)},
        SLEEPY,
        outputs=(),
        output_node=True,
    ),
    probe(
        "ProbeFail",
        fail,
        {"image": IMAGE, "message": STRING("boom", multiline=True)},
        {"kind": CHOICE(ERRORS), "seed": SEED},
    ),
    probe("ProbeOOM", out_of_memory, {"image": IMAGE}),
    probe(
        "ProbeText",
        show_text,
        {"text": STRING("hello", multiline=True)},
        outputs=("STRING",),
        output_node=True,
    ),
    probe("ProbeBigText", show_much, {"kib": INT(1, 0, 2**20)}, outputs=(), output_node=True),
    probe(
        "ProbeUI",
        show_anything,
        {"ui_json": STRING("{}", multiline=True)},
        {"seed": SEED, "evil": CHOICE(["no", "numpy", "bytes", "nan"])},
        outputs=(),
        output_node=True,
    ),
    probe("ProbeMedia", media, {"image": IMAGE}, outputs=(), output_node=True),
    probe(
        "ProbeExpand",
        expand,
        {"image": IMAGE, "n": INT(2, 1, 50)},
        {"seed": SEED, "with_output": BOOLEAN(), "fail": BOOLEAN(), "delay_ms": INT(20, 0, 60_000)},
    ),
    probe(
        "ProbeLazy", choose, {"use_a": BOOLEAN(True)}, {"a": LAZY, "b": LAZY, "seed": SEED}, lacks=unwanted
    ),
    probe("ProbeInit", unmade, {"image": IMAGE}),
    probe(
        "ProbeV3",
        newer,
        {"image": ["IMAGE", {}], "mode": ["COMBO", {"multiselect": False, "options": ["a", "b"]}]},
        output_node=True,
    ),
    probe("ProbeBlock", block, {"image": IMAGE, "message": STRING()}),
    probe(
        "ProbeProgressText",
        progress_text,
        {"image": IMAGE, "text": STRING("working")},
        {"seed": SEED, "to_sid": BOOLEAN()},
        hidden={"uid": "UNIQUE_ID"},
    ),
    probe(
        "ProbeList",
        many,
        {"n": INT(3, 0, 1000), "size": INT(16, 8, 4096)},
        outputs=("IMAGE", "STRING"),
        output_is_list=(True, True),
    ),
    probe(
        "ProbeBurst",
        burst,
        {"image": IMAGE, "n": INT(1000, 1, 10_000_000), "kind": CHOICE(["progress", "raw", "preview"])},
    ),
    probe("ProbeCustom", custom, {"image": IMAGE, "what": CHOICE(MESSAGES)}),
    probe("ProbeAlways", always, {"image": IMAGE}, {}, changed=lambda folders, **inputs: uuid.uuid4().hex),
    probe("ProbeValidate", through, {"image": IMAGE, "path": STRING("ok")}, {}, valid=checked),
]
