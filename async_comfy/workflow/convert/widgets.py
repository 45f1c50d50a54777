"""The widgets of a node: which ones the editor makes for a declared input, and what they send.

Order matters twice: a file lists the values of its widgets by position, and companions (the control
below a seed, an upload button) take a position too although they send nothing.

Source: ComfyUI_frontend ``scripts/widgets.ts`` and the ``use*Widget`` composables.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from async_comfy.workflow.convert.classes import InputSpec, mapping, sequence

UNSET: Any = object()
"""The value of a widget that has none. It is not sent, unlike None."""

SEEDS = frozenset({"seed", "noise_seed"})
"""Names that get a control companion where the class says nothing about one."""


CONTROLS = ("fixed", "increment", "decrement", "randomize")
"""What a control companion can say."""


@dataclass(frozen=True, slots=True)
class Range:
    """The limits and the grid of a number. `round_to` 0 means no rounding; `whole` makes it an integer."""

    low: float
    high: float
    step: float
    precision: int
    round_to: float
    whole: bool

    def nearest(self, value: Any) -> Any:
        """`value` on the grid, as the editor puts it there when a value is handed to the widget."""
        if not _countable(value):
            return value
        return self._whole(value) if self.whole else self._fraction(value)

    def clamped(self, value: Any) -> Any:
        """`value` within the limits."""
        return min(max(value, self.low), self.high) if _countable(value) else value

    def _whole(self, value: float) -> float:
        step = self.step or 1
        if step == 1:
            return value if isinstance(value, int) else math.floor(value + 0.5)
        offset = math.fmod(self.low, step)
        return math.floor((value - offset) / step + 0.5) * step + offset

    def _fraction(self, value: float) -> float:
        if not self.round_to:
            return value
        rounded = round(math.floor(value / self.round_to + 0.5) * self.round_to, self.precision)
        return min(max(rounded, self.low), self.high)


def _countable(value: Any) -> bool:
    """Whether it is a number that can be rounded; the bounds keep out NaN and what no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


class Widget:
    """One widget. `sent`: its value goes into the prompt; `saved`: it takes a place in a file's values.

    `kind` is the editor's name for its look. `fixed`: only a person at the editor can change it.
    `live` says why its value cannot be known from a file, where it cannot.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        value: Any = UNSET,
        *,
        sent: bool = True,
        saved: bool = True,
        fixed: bool = False,
        choices: Sequence[Any] = (),
        span: Range | None = None,
        live: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        self.sent = sent
        self.saved = saved
        self.fixed = fixed
        self.choices = choices
        self.span = span
        self.live = live
        self.dynamic_prompt = False
        self.file_name = False

    def read(self) -> Any:
        """The value that it shows."""
        return self.value

    def put(self, value: Any) -> None:
        """Takes a value from a file."""
        if self.fixed:
            return
        self.value = "" if value is None and self.kind == "customtext" else value

    def hand(self, value: Any) -> None:
        """Takes a value from a primitive node, which puts it on the grid."""
        self.put(value)
        if self.span and not self.fixed:
            self.value = self.span.nearest(self.value)

    def matches(self, other: "Widget") -> bool:
        """Whether one subgraph input can feed both."""
        if self.kind != other.kind:
            return False
        mine, theirs = self.span, other.span
        if mine is None or theirs is None:
            return mine is theirs
        return (mine.low, mine.high, mine.step, mine.precision) == (
            theirs.low,
            theirs.high,
            theirs.step,
            theirs.precision,
        )


def is_preview(widget: Widget) -> bool:
    """Whether it only shows what a node made; such widgets are exposed, never promoted."""
    shows = widget.kind in {"preview", "video", "audioUI"}
    return widget.name.startswith("$$") or (shows and not (widget.saved and widget.sent))


def range_of(spec: InputSpec) -> Range:
    """The limits of a declared INT or FLOAT."""
    options, whole = spec.options, spec.type == "INT"
    low, high = _amount(options, "min", 0), _amount(options, "max", 2048)
    step = _amount(options, "step", 1 if whole else 0.5)
    if whole:
        return Range(low, high, step, 0, 0, whole=True)
    precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    round_to = _amount(options, "round", 0) or (10.0**-precision if precision else 0)
    return Range(low, high, step, precision, round_to, whole=False)


def _amount(options: Mapping[str, Any], key: str, default: float) -> float:
    value = options.get(key)
    return value if isinstance(value, int | float) and _countable(value) else default


def _given(options: Mapping[str, Any], key: str, default: Any) -> Any:
    value = options.get(key)
    return default if value is None else value


def _int(spec: InputSpec) -> list[Widget]:
    controlled = _given(spec.options, "control_after_generate", spec.name in SEEDS)
    number = Widget(spec.name, _number_look(spec), _given(spec.options, "default", 0), span=range_of(spec))
    return [number, *_controls(spec, "randomize")] if controlled else [number]


def _float(spec: InputSpec) -> list[Widget]:
    number = Widget(spec.name, _number_look(spec), _given(spec.options, "default", 0), span=range_of(spec))
    return [number, *_controls(spec, "fixed")] if spec.options.get("control_after_generate") else [number]


def _number_look(spec: InputSpec) -> str:
    display = spec.options.get("display")
    looks = ("slider", "knob") if spec.type == "INT" else ("slider", "knob", "gradientslider")
    return display if isinstance(display, str) and display in looks else "number"


def _controls(spec: InputSpec, default: str) -> list[Widget]:
    """What changes a value after each run: it takes a place in the file and sends nothing."""
    asked = spec.options.get("control_after_generate")
    name = asked if isinstance(asked, str) else "control_after_generate"
    value = asked if isinstance(asked, str) else default
    return [Widget(name, "combo", value, sent=False, choices=CONTROLS)]


def _boolean(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "toggle", _given(spec.options, "default", False))]


def _string(spec: InputSpec) -> list[Widget]:
    kind = "customtext" if spec.options.get("multiline") else "text"
    text = Widget(spec.name, kind, _given(spec.options, "default", ""))
    text.dynamic_prompt = spec.options.get("dynamicPrompts") is True
    return [text]


def _combo(spec: InputSpec) -> list[Widget]:
    options = spec.options
    if options.get("multi_select"):
        return [Widget(spec.name, "custom", []), *_combo_controls(spec, "fixed")]
    combo = Widget(spec.name, "combo", first_choice(spec), choices=choices_of(spec))
    remote = options.get("remote")
    return [combo, *_refreshers(remote), *_combo_controls(spec, "randomize")]


def choices_of(spec: InputSpec) -> Sequence[Any]:
    """What a combo offers."""
    return sequence(spec.options.get("options"))


def first_choice(spec: InputSpec) -> Any:
    """What a combo shows before a value is put into it."""
    if default := spec.options.get("default"):
        return default
    if choices := choices_of(spec):
        return choices[0]
    return "Loading..." if spec.options.get("remote") else UNSET


def _combo_controls(spec: InputSpec, default: str) -> list[Widget]:
    if not spec.options.get("control_after_generate"):
        return []
    return [*_controls(spec, default), Widget("control_filter_list", "string", "", sent=False)]


def _refreshers(remote: Any) -> list[Widget]:
    if not isinstance(remote, Mapping):
        return []
    toggle = Widget("Auto-refresh after generation", "toggle", value=False, sent=False)
    return [toggle, Widget("refresh", "button", "refresh")] if remote.get("refresh_button") else [toggle]


def _bounding_box(spec: InputSpec) -> list[Widget]:
    box = mapping(_given(spec.options, "default", {"x": 0, "y": 0, "width": 512, "height": 512}))
    kind = "imagecrop" if spec.options.get("component") == "ImageCrop" else "boundingbox"
    sides = [Widget(side, "number", box.get(side), sent=False) for side in ("x", "y", "width", "height")]
    return [Widget(spec.name, kind, dict(box)), *sides]


def _video_edit(spec: InputSpec) -> list[Widget]:
    features = _given(spec.options, "features", ["trim", "crop"])
    blank = {
        "trim": {"start_time": 0, "duration": 0},
        "crop": {"x": 0, "y": 0, "width": 0, "height": 0},
    }
    default = {name: value for name, value in blank.items() if name in features}
    return [Widget(spec.name, "videoedit", _given(spec.options, "default", default))]


def _plain(kind: str, default: Any) -> Callable[[InputSpec], list[Widget]]:
    def build(spec: InputSpec) -> list[Widget]:
        return [Widget(spec.name, kind, _given(spec.options, "default", default))]

    return build


def _nested(kind: str, key: str, default: Any) -> Callable[[InputSpec], list[Widget]]:
    """A widget whose default lies one level deeper, in the option "options"."""

    def build(spec: InputSpec) -> list[Widget]:
        return [Widget(spec.name, kind, mapping(spec.options.get("options")).get(key) or default)]

    return build


def _image_compare(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "imagecompare", ["", ""], saved=False)]


def _upload_button(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "button", "", sent=False)]


def _audio_player(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "audioUI", "", sent=False, saved=False)]


def _recorder(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "audioUI", "", fixed=True), Widget(spec.name, "button", "", sent=False)]


def _webcam(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "WEBCAM", fixed=True, live="a picture from a camera")]


def _model_view(spec: InputSpec) -> list[Widget]:
    del spec  # the editor names it so whatever the class says
    return [Widget("image", "load3D", "", fixed=True)]


def _scene(spec: InputSpec) -> list[Widget]:
    return [Widget(spec.name, "load3D", "", fixed=True, live="a view of a 3D scene that the editor renders")]


BUILDERS: Mapping[str, Callable[[InputSpec], list[Widget]]] = {
    "INT": _int,
    "FLOAT": _float,
    "BOOLEAN": _boolean,
    "STRING": _string,
    "MARKDOWN": _plain("MARKDOWN", ""),
    "COMBO": _combo,
    "IMAGEUPLOAD": _upload_button,
    "AUDIOUPLOAD": _upload_button,
    "AUDIO_UI": _audio_player,
    "AUDIO_RECORD": _recorder,
    "WEBCAM": _webcam,
    "PREVIEW_3D": _model_view,
    "LOAD_3D": _scene,
    "LOAD_3D_ADVANCED": _scene,
    "COLOR": _plain("color", "#000000"),
    "IMAGECOMPARE": _image_compare,
    "BOUNDING_BOX": _bounding_box,
    "BOUNDING_BOXES": _plain("boundingboxes", []),
    "COLORS": _plain("colors", []),
    "CHART": _nested("chart", "data", {}),
    "GALLERIA": _nested("galleria", "images", []),
    "TEXTAREA": _nested("textarea", "default", ""),
    "PAINTER": _plain("painter", ""),
    "COMPOSITOR": _plain("compositor", {}),
    "CURVE": _plain("curve", {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}),
    "RANGE": _plain("range", {"min": 0.0, "max": 1.0}),
    "VIDEO_EDIT": _video_edit,
}
"""Which widgets an input of a type gets, the one that carries the value first."""
