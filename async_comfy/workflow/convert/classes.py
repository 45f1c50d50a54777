"""What a server says of its node classes (``/object_info``), as the editor reads it.

The editor's own extensions add inputs to some classes before it builds their nodes; those are added
here too, so that nobody further down needs to know.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AUDIO_PLAYERS = frozenset(
    {"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"}
)
"""Classes that the editor gives a player (frontend ``uploadAudio.ts``)."""

MODEL_VIEWERS = frozenset({"SaveGLB", "Preview3D"})
"""Classes that the editor gives a 3D view (frontend ``saveMesh.ts``, ``load3d.ts``)."""

EDITOR_TITLES: Mapping[str, str] = {
    "ByteDance2ReferenceNode": "ByteDance Seedance 2.5 Reference to Video",
    "ByteDanceSeedreamNodeV2": "ByteDance Seedream 4.5 & 5.0",
    "IdeogramPImage": "Ideogram P-Image",
    "LTXVConcatAVLatent": "LTXVConcatAVLatent",
    "LTXVSeparateAVLatent": "LTXVSeparateAVLatent",
    "TopazImageEnhance": "Topaz Image Enhance",
}
"""The editor's own English titles win over the server's; these are all that differ (1.49 against 0.33)."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One declared input: its type and the options that the server gave with it."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    @classmethod
    def read(cls, name: str, raw: Any, *, optional: bool = False) -> "InputSpec":
        """From ``["INT", {"default": 1}]``; a list in place of the type is a list of choices."""
        raw = raw if isinstance(raw, list | tuple) and raw else ["*"]
        options = dict(raw[1]) if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
        if isinstance(raw[0], list):
            return cls(name, "COMBO", {**options, "options": raw[0]}, optional)
        return cls(name, str(raw[0]), options, optional)

    @property
    def widget_type(self) -> str:
        """Which widget shows it, where the class wants another than its type's own."""
        return str(self.options.get("widgetType") or self.type)

    @property
    def forced(self) -> bool:
        """The input is a socket only, whatever its type."""
        return bool(self.options.get("forceInput") or (self.optional and self.options.get("defaultInput")))

    @property
    def template(self) -> Mapping[str, Any]:
        """What a growing or type-matching input repeats."""
        return mapping(self.options.get("template"))


def mapping(raw: Any) -> Mapping[str, Any]:
    """`raw` if it is an object, else an empty one: a server's word for it is not enough."""
    return raw if isinstance(raw, Mapping) else {}


def sequence(raw: Any) -> Sequence[Any]:
    """`raw` if it is a list, else an empty one."""
    return raw if isinstance(raw, list | tuple) else ()


def specs_in(sections: Any) -> Iterator[InputSpec]:
    """The inputs of a ``{"required": {...}, "optional": {...}}``, in its order."""
    for section in ("required", "optional"):
        for name, raw in mapping(mapping(sections).get(section)).items():
            yield InputSpec.read(name, raw, optional=section == "optional")


@dataclass(frozen=True, slots=True)
class NodeClass:
    """One class: `declared` inputs as listed, `ordered` as the editor builds them, and output types."""

    name: str
    title: str
    declared: Mapping[str, InputSpec]
    ordered: tuple[InputSpec, ...]
    outputs: tuple[str, ...]

    @classmethod
    def read(cls, name: str, raw: Mapping[str, Any]) -> "NodeClass":
        """From one value of ``/object_info``."""
        declared = {spec.name: spec for spec in specs_in(_with_extensions(name, raw.get("input")))}
        return cls(
            name,
            EDITOR_TITLES.get(name) or str(raw.get("display_name") or name),
            declared,
            tuple(_in_order(declared, raw.get("input_order"))),
            tuple(_output_type(kind) for kind in sequence(raw.get("output"))),
        )


def _with_extensions(name: str, sections: Any) -> dict[str, Any]:
    required = dict(mapping(mapping(sections).get("required")))
    if name in MODEL_VIEWERS:
        required["image"] = ["PREVIEW_3D"]
    if name == "Load3DAdvanced":
        required["viewport_state"] = ["LOAD_3D_ADVANCED", {}]
    if name in AUDIO_PLAYERS:
        required["audioUI"] = ["AUDIO_UI", {}]
    if _has_option(required.get("audio"), "audio_upload"):
        required["upload"] = ["AUDIOUPLOAD", {}]
    if any(_takes_pictures(raw) for raw in required.values()):
        required["upload"] = ["IMAGEUPLOAD", {}]
    return {**mapping(sections), "required": required}


def _takes_pictures(raw: Any) -> bool:
    combo = isinstance(raw, list | tuple) and len(raw) > 0 and (raw[0] == "COMBO" or isinstance(raw[0], list))
    kinds = ("image_upload", "video_upload", "animated_image_upload")
    return combo and any(_has_option(raw, kind) for kind in kinds)


def _has_option(raw: Any, option: str) -> bool:
    return InputSpec.read("", raw).options.get(option) is True


def _in_order(declared: Mapping[str, InputSpec], order: Any) -> Iterator[InputSpec]:
    names: dict[str, None] = {}
    for section in ("required", "optional"):
        for name in map(str, sequence(mapping(order).get(section))):
            if name in declared and declared[name].optional == (section == "optional"):
                names[name] = None
    yield from (declared[name] for name in (*names, *(name for name in declared if name not in names)))


def _output_type(raw: Any) -> str:
    if isinstance(raw, list):
        return "COMBO"
    return "*" if raw == "COMFY_MATCHTYPE_V3" else str(raw)
