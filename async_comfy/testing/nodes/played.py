"""Node classes known by their declaration only: accepted, checked by it, and played."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from async_comfy.testing.call import Call
from async_comfy.testing.nodes.diffusion import Guider, Noise, Sigmas
from async_comfy.testing.nodes.images import write
from async_comfy.testing.nodes.node import Node, Shown, Spec
from async_comfy.testing.nodes.values import Conditioning, Images, Latent, Masks, Model, Played
from async_comfy.testing.pictures import paint

SIDE = 512  # pixels of a picture that is declared and has no declared size
MODELS = ("MODEL", "CLIP", "VAE", "CONTROL_NET", "UPSCALE_MODEL", "CLIP_VISION", "STYLE_MODEL")


def play(name: str, info: Mapping[str, Any]) -> Node:
    """A class as /object_info declares it; its outputs are placeholders, and pictures for IMAGE."""
    given = info.get("input", {})
    outputs = tuple("COMBO" if isinstance(kind, list) else str(kind) for kind in info.get("output", ()))

    def run(call: Call, **inputs: Any) -> Any:
        return act(call, name, outputs, lists, inputs, shows=bool(info.get("output_node")))

    lists = tuple(bool(one) for one in info.get("output_is_list", ()))
    return Node(
        name,
        run,
        required=given.get("required", {}),
        optional=given.get("optional", {}),
        hidden=given.get("hidden", {}),
        outputs=outputs,
        output_names=tuple(info.get("output_name", outputs)),
        output_is_list=lists,
        output_node=bool(info.get("output_node")),
        input_is_list=bool(info.get("is_input_list")),
        category=info.get("category", ""),
        display_name=info.get("display_name"),
        description=info.get("description", ""),
        module=info.get("python_module", "nodes"),
        known=frozenset(),
    )


def declare(node: Node, info: Mapping[str, Any], folders: Collection[str]) -> Node:
    """A class that really runs, with the inputs and choices that another server declares for it.

    Choices from `folders` are this server's own.
    """
    given = info.get("input", {})
    required, optional = (
        {name: _kept(node.inputs.get(name), spec, folders) for name, spec in given.get(group, {}).items()}
        for group in ("required", "optional")
    )
    return replace(node, required=required, optional=optional, known=frozenset(node.inputs))


def _kept(own: Spec | None, theirs: Spec, folders: Collection[str]) -> Spec:
    """Their declaration, except where the choices are files that this server has itself."""
    mine = own is not None and isinstance(own[0], str) and own[0].removeprefix("@") in folders
    return own if own is not None and mine else theirs


def act(
    call: Call,
    name: str,
    outputs: tuple[str, ...],
    lists: tuple[bool, ...],
    inputs: Mapping[str, Any],
    *,
    shows: bool,
) -> Any:
    """What a played node returns: the first input of the same type, or a placeholder of it."""
    made = tuple(_value(kind, name, inputs) for kind in outputs)
    made = tuple([value] if slot < len(lists) and lists[slot] else value for slot, value in enumerate(made))
    return Shown(_shown(call, inputs), made) if shows else made


def _shown(call: Call, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Pictures are saved and listed, texts are listed; a node that got neither says that it ran."""
    flat = [value for one in inputs.values() for value in (one if isinstance(one, list) else [one])]
    pictures = [value for value in flat if isinstance(value, Images)]
    if pictures:
        prefix = inputs.get("filename_prefix", "ComfyUI")
        return write(call, pictures[0], prefix if isinstance(prefix, str) else "ComfyUI", "output", 4)
    return {"text": [value for value in flat if isinstance(value, str)][:1] or ["done"]}


def _value(kind: str, name: str, inputs: Mapping[str, Any]) -> Any:
    if kind.startswith("COMFY_"):  # of the type of whatever is linked to it
        linked = (value for value in inputs.values() if not isinstance(value, bool | int | float | str))
        return next(linked, next(iter(inputs.values()), Played(kind, name)))
    kinds = {"IMAGE": Images, "MASK": Masks, "LATENT": Latent, "CONDITIONING": Conditioning, "SIGMAS": Sigmas}
    kinds |= {"NOISE": Noise, "GUIDER": Guider, "INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
    wanted = kinds.get(kind, Model if kind in MODELS else Played)
    same = next((value for value in inputs.values() if type(value) is wanted), None)
    if same is not None and wanted is not Played:
        return same
    return _placeholder(kind, name, inputs)


def _placeholder(kind: str, name: str, inputs: Mapping[str, Any]) -> Any:
    text = next((value for value in inputs.values() if isinstance(value, str) and " " in value), name)
    width, height, seed = (
        _number(inputs, key, default) for key, default in (("width", SIDE), ("height", SIDE), ("seed", 0))
    )
    match kind:
        case "IMAGE":
            return Images((paint(text, seed, width, height),))
        case "MASK":
            return Masks((Image.new("L", (width, height), 255),))
        case "LATENT":
            return Latent(width, height, 1, seed, text, clarity=1.0)
        case "CONDITIONING":
            return Conditioning(text)
        case "SIGMAS":
            return Sigmas(_number(inputs, "steps", 20))
        case "NOISE":
            return Noise(_number(inputs, "noise_seed", 0))
        case "GUIDER":
            return Guider(Model(name), text)
        case "INT" | "FLOAT":
            return 0
        case "STRING":
            return text
        case "BOOLEAN":
            return False
    return Model(name) if kind in MODELS else Played(kind, name)


def _number(inputs: Mapping[str, Any], key: str, default: int) -> int:
    value = inputs.get(key, default)
    return value if isinstance(value, int) and value > 0 else default
