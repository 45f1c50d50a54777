"""Every node class that a simulated server knows, and every model file it has."""

import copy
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from async_comfy.testing.files import Folders
from async_comfy.testing.nodes.node import Node, Spec

MODELS: dict[str, list[str]] = {
    "checkpoints": [
        "sd_xl_base_1.0.safetensors",
        "sd_xl_refiner_1.0.safetensors",
        "v1-5-pruned-emaonly-fp16.safetensors",
        "flux1-schnell-fp8.safetensors",
    ],
    "loras": ["lcm_lora_sdxl.safetensors", "pixel_art_xl.safetensors"],
    "vae": ["ae.safetensors", "sdxl_vae.safetensors", "vae-ft-mse-840000-ema-pruned.safetensors"],
    "text_encoders": [
        "clip_l.safetensors",
        "clip_g.safetensors",
        "t5xxl_fp16.safetensors",
        "t5xxl_fp8_e4m3fn.safetensors",
    ],
    "diffusion_models": ["flux1-schnell.safetensors", "flux1-dev.safetensors"],
    "clip_vision": [],
    "style_models": [],
    "embeddings": [],
    "controlnet": ["controlnet-canny-sdxl-1.0.safetensors"],
    "upscale_models": ["4x-UltraSharp.pth"],
    "configs": [],
}
"""What lies in the model folders of a server that was told nothing else: names, there are no such files."""


class Catalog(Mapping[str, Node]):
    """Node classes by name. `info` is what /object_info says of one."""

    def __init__(self, nodes: Mapping[str, Node], models: Mapping[str, list[str]], folders: Folders) -> None:
        self._nodes = nodes
        self.models = {**MODELS, **{folder: list(names) for folder, names in models.items()}}
        self.folders = folders

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Any:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def spec(self, spec: Spec) -> Spec:
        """The declaration of one input with its choices filled in."""
        if not isinstance(spec[0], str) or not spec[0].startswith("@"):
            return spec
        folder = spec[0][1:]
        choices = self.folders.inputs() if folder == "input" else self.models.get(folder, [])
        return [choices, *spec[1:]]

    def info(self, name: str) -> dict[str, Any]:
        """What /object_info says of a class."""
        info = copy.deepcopy(self._nodes[name].info())
        for group in ("required", "optional"):
            specs = info["input"].get(group, {})
            info["input"][group] = {key: self.spec(spec) for key, spec in specs.items()}
            if not specs and group == "optional":
                del info["input"][group]
        return info


def read_object_info(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """The declarations of a real server: its /object_info, or a file of it (.json or .json.gz).

    Raises: `ValueError` where it is none; `OSError` where the file cannot be read.
    """
    if isinstance(source, Mapping):
        return source
    raw = Path(source).read_bytes()
    try:
        found = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except ValueError as error:
        raise ValueError(f"{source} is no object_info: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(info, dict) and "input" in info for info in found.values()
    ):
        raise ValueError(f"{source} is no object_info: it should map class names to their declarations")
    return found
