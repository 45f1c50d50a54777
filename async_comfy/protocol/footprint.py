"""What a prompt will ask of a server, read from its nodes before it is sent: work, models, classes.

Two prompts with one `shape` take about as long as each other; two with the same `models` find warm what
the other one left. Seeds and texts change neither.
"""

from dataclasses import dataclass

from async_comfy.workflow.nodes import Nodes
from async_comfy.workflow.values import linked

MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".sft", ".onnx")
"""What ComfyUI takes as a model file (folder_paths.py, supported_pt_extensions), and quantised ones."""

EMBEDDING = "embedding:"
"""A text that names one, perhaps as its last word, is no model file (comfy/sd1_clip.py)."""

SIZES = frozenset(
    {"steps", "width", "height", "batch_size", "length", "frames", "amount", "scale_by", "megapixels"}
)
"""Inputs whose literal value decides how long a node runs."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a prompt asks of a server.

    `shape`: equal for prompts of equal work, in this process (a hash: not to be stored). `models`: the
    files that its loaders name, LoRAs too, sorted. `classes`: the node classes that a server needs for it.
    `loaders`: the ids of the nodes that begin with such files and are used; a LoRA is laid on what they load.
    """

    shape: int
    models: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()
    loaders: frozenset[str] = frozenset()


def footprint(nodes: Nodes) -> Footprint:
    """The footprint of a resolved workflow."""
    models: set[str] = set()
    loaders: set[str] = set()
    laid_on: set[str] = set()
    used: set[str] = set()
    work: list[tuple[str, tuple[float, ...]]] = []
    for key, node in nodes.items():
        sizes: list[float] = []
        for name, value in node.inputs.items():
            if isinstance(value, str):
                if value.endswith(MODEL_SUFFIXES) and EMBEDDING not in value:
                    models.add(value)
                    loaders.add(key)
            elif (source := linked(value)) is not None:
                laid_on.add(key)
                used.add(source)
            elif name in SIZES and isinstance(value, int | float):
                sizes.append(value)
        work.append((node.class_type, tuple(sizes)))
    work.sort()
    loaded = tuple(sorted(models))
    classes = frozenset([name for name, _ in work])
    return Footprint(hash((tuple(work), loaded)), loaded, classes, frozenset((loaders & used) - laid_on))


def of_classes(classes: frozenset[str]) -> Footprint:
    """The footprint of a workflow of which only the classes are known: the editor's format."""
    return Footprint(hash(classes), (), classes)
