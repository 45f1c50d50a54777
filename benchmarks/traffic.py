"""What a server says of one prompt: the 61 messages of a seven-node picture with sixteen steps.

Order, fields and spacing are those of a real ComfyUI 0.33 (tests/recordings/30_real_diffusion).
"""

import json
from typing import Any

STEPS = 16
EVENTS = 61
HERE = "00000000-0000-4000-8000-000000000000"
"""Stands for the prompt id; every prompt id is as long."""

WORKFLOW: dict[str, dict[str, Any]] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "2": {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": ["1", 1], "text": "a lighthouse in the evening sun"},
    },
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry, low quality"}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "seed": 274262145017,
            "steps": STEPS,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "picture"}},
}
OUTPUT = {"images": [{"filename": "picture_00001_.png", "subfolder": "", "type": "output"}]}
_ORDER = ("1", "4", "3", "2", "5", "6", "7")
_SAMPLER, _SAVER = "5", "7"


def queue_changed(waiting: int = 1) -> bytes:
    """What every socket hears when a prompt comes or goes."""
    return _text("status", {"status": {"exec_info": {"queue_remaining": waiting}}})


def greeting(client_id: str) -> bytes:
    """The first message of a connection."""
    return _text("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client_id})


def flags() -> bytes:
    """The answer to a client's own flags."""
    return _text("feature_flags", {"supports_preview_metadata": True, "max_upload_size": 104857600})


def run() -> list[list[bytes]]:
    """The messages of a prompt that runs, in the groups in which the server said them at once.

    At once: within 0.3 ms. Two more messages told of the prompt's coming.
    """
    start = _text("execution_start", {"prompt_id": HERE, "timestamp": 1795167655012})
    cached = _text("execution_cached", {"nodes": [], "prompt_id": HERE, "timestamp": 1795167655013})
    success = _text("execution_success", {"prompt_id": HERE, "timestamp": 1795167657109})
    first, *others = _ORDER
    said = [[start, cached, *_begun(first)], [_finished(first)]]
    for node in others[:-1]:
        said += [_begun(node), *(_steps() if node == _SAMPLER else ()), [_finished(node)]]
    last = others[-1]
    return [*said, [*_begun(last), executed(), _finished(last), success, queue_changed(0), end_mark()]]


def end_mark() -> bytes:
    """The last message of every prompt."""
    return _text("executing", {"node": None, "prompt_id": HERE})


def interrupted() -> list[bytes]:
    """How a prompt ends that was cancelled."""
    data = {"prompt_id": HERE, "node_id": _SAMPLER, "node_type": "KSampler", "executed": [], "timestamp": 1}
    return [_text("execution_interrupted", data), end_mark()]


def step(value: int = 7) -> bytes:
    """A sampler's step."""
    return _text("progress", {"value": value, "max": STEPS, "prompt_id": HERE, "node": _SAMPLER})


def snapshot(running: str = _SAMPLER, value: float = 7.0, most: float = STEPS) -> bytes:
    """How far every node is."""
    done = _ORDER[: _ORDER.index(running)]
    nodes = {node: _progress(node, 1.0, 1.0, "finished") for node in done}
    nodes[running] = _progress(running, value, most, "running" if value < most else "finished")
    return _text("progress_state", {"prompt_id": HERE, "nodes": nodes})


def executing(node: str = _SAMPLER) -> bytes:
    """A node begins."""
    return _text("executing", {"node": node, "display_node": node, "prompt_id": HERE})


def executed() -> bytes:
    """A node has something to show."""
    return _text("executed", {"node": _SAVER, "display_node": _SAVER, "output": OUTPUT, "prompt_id": HERE})


def preview(size: int = 30_000) -> bytes:
    """A binary message: a picture in the making, with the words about it."""
    about = json.dumps(
        {
            "node_id": _SAMPLER,
            "prompt_id": HERE,
            "display_node_id": _SAMPLER,
            "parent_node_id": None,
            "real_node_id": _SAMPLER,
            "image_type": "image/jpeg",
        }
    ).encode()
    return b"\0\0\0\4" + len(about).to_bytes(4, "big") + about + bytes(size)


def _begun(node: str) -> list[bytes]:
    return [snapshot(node, 0.0, _most(node)), executing(node)]


def _steps() -> list[list[bytes]]:
    return [[snapshot(value=min(value, STEPS - 0.5)), step(value)] for value in range(1, STEPS + 1)]


def _finished(node: str) -> bytes:
    return snapshot(node, _most(node), _most(node))


def _most(node: str) -> float:
    return float(STEPS) if node == _SAMPLER else 1.0


def _progress(node: str, value: float, most: float, state: str) -> dict[str, Any]:
    return {
        "value": value,
        "max": most,
        "state": state,
        "node_id": node,
        "prompt_id": HERE,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


def _text(kind: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "data": data}).encode()


KINDS = {
    "progress": step(),
    "progress_state": snapshot(),
    "executing": executing(),
    "executed": executed(),
    "status": queue_changed(),
    "preview 30 KB": preview(),
}
"""One message of each kind that makes up the traffic."""
