"""Frames: whatever arrives is an event or a broken frame, and nothing else."""

import json
import struct
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_comfy import events
from async_comfy.events import Unknown
from async_comfy.protocol import frames
from async_comfy.protocol.frames import BrokenFrame
from tests.protocol import wire
from tests.protocol.odd import ids, objects, scalars, values

OWNER, OTHER = "5f3f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a11", "6a9f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a12"
KINDS = (*events.EVENTS, "probe.custom", "logs")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_broken_frame(raw: bytes) -> None:
    for decode in (frames.decode_text, frames.decode_binary):
        try:
            event = decode(raw)
        except BrokenFrame:
            continue
        assert isinstance(event, events.Event)


@given(st.sampled_from([b"\0\0\0\1", b"\0\0\0\3", b"\0\0\0\4"]), st.binary(max_size=80))
def test_any_bytes_after_a_known_kind_are_an_event_or_a_broken_frame(kind: bytes, rest: bytes) -> None:
    try:
        event = frames.decode_binary(kind + rest)
    except BrokenFrame:
        return
    assert isinstance(event, events.Preview | events.ProgressText)


@given(st.sampled_from(KINDS), values | objects(values))
def test_a_message_with_a_type_is_never_broken_whatever_its_data(kind: str, data: Any) -> None:
    event = frames.decode_text(json.dumps({"type": kind, "data": data}).encode())
    assert event.type == kind or (isinstance(event, Unknown) and event.name == kind)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"type": "x", "data": {"v": NaN}}', float("nan")),
        (b'{"type": "x", "data": {"v": -Infinity}}', float("-inf")),
        (b'{"type": "x", "data": {"v": "\\ud800x"}}', "\ud800x"),
        (b'{"type": "x", "data": {"v": 1' + b"0" * 400 + b"}}", 10**400),
        (b'\xef\xbb\xbf{"type": "x", "data": {"v": 1}}', 1),
        (b'{"type": "x", "data": {"v": ' + b"[" * 500 + b"]" * 500 + b"}}", None),
    ],
    ids=["NaN", "Infinity", "lone surrogate", "huge int", "BOM", "deep"],
)
def test_what_strict_parsers_refuse_is_kept_as_data(raw: bytes, value: object) -> None:
    event = frames.decode_text(raw)
    assert isinstance(event, Unknown)
    if value is not None:
        assert repr(event.data["v"]) == repr(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"type": 5}',
        b'{"type": null, "data": {}}',
        b"<html>",
        b"\xff\xfe",
        b'{"type": "executing", "data": {"node": ',
        b"[" * 100_000,
        b'{"type": "x", "data": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_names_no_type_is_broken_and_says_so_without_its_content(raw: bytes) -> None:
    with pytest.raises(BrokenFrame) as broken:
        frames.decode_text(raw)
    assert len(str(broken.value)) < 100


@pytest.mark.parametrize(
    "kind", [k for k in events.EVENTS if k not in {"preview", "progress_text", "unknown", "gap"}]
)
def test_a_core_type_of_another_shape_is_unknown_and_keeps_its_owner(kind: str) -> None:
    odd = {"prompt_id": "p", "node": 5, "nodes": 5, "output": 5, "timestamp": "now", "status": 5, "value": []}
    event = frames.decode_text(json.dumps({"type": kind, "data": odd}).encode())
    if kind == "feature_flags":
        assert event == events.FeatureFlags(flags=odd)
    else:
        assert event == Unknown(name=kind, data=odd, prompt_id="p")


def test_nan_within_a_core_type_does_not_make_it_unknown() -> None:
    event = frames.decode_text(
        b'{"type": "executed", "data": {"node": "1", "output": {"v": [NaN]}, "prompt_id": "p"}}'
    )
    assert isinstance(event, events.Executed)
    assert event.prompt_id == "p"


def test_status_says_the_queue_and_the_sid() -> None:
    assert wire.status(3, "me").event == events.Status(queue_remaining=3, sid="me")
    assert wire.status(0).event == events.Status(queue_remaining=0)


def test_the_end_mark_is_an_executing_without_a_node() -> None:
    assert wire.executing("p", None).event == events.Executing(prompt_id="p", node=None)


@pytest.mark.parametrize(
    "data",
    [
        {"status": {"exec_info": {"queue_remaining": 0}}, "credential_key": "s3cret"},
        {"status": 5, "credential_key": "s3cret"},
        {"status": {"exec_info": {"queue_remaining": float("nan")}}, "credential_key": "s3cret"},
    ],
    ids=["as it should be", "of another shape", "with NaN"],
)
def test_the_credential_key_of_a_status_is_in_no_event(data: dict[str, Any]) -> None:
    raw = json.dumps({"type": "status", "data": data}).encode()
    assert "s3cret" not in repr(frames.decode_text(raw))


def test_the_credential_key_can_be_asked_for() -> None:
    raw = b'{"type": "status", "data": {"status": {}, "sid": "me", "credential_key": "s3cret"}}'
    assert frames.credential_key(raw) == "s3cret"
    assert frames.credential_key(wire.status(0).raw) is None
    assert frames.credential_key(b"nonsense") is None


gauges = st.sampled_from(["progress", "progress_state"])
gauge_data = st.builds(
    lambda value, limit, owner, more, tail: {
        "value": value,
        "max": limit,
        **more,
        "prompt_id": owner,
        **tail,
    },
    scalars | objects(ids),
    scalars,
    ids,
    objects(values | ids),
    objects(values | ids),
)


@given(
    gauges,
    gauge_data | objects(values | ids) | st.builds(lambda o, t: {"prompt_id": o, **t}, ids, objects(ids)),
)
@example("progress", {"value": {"prompt_id": OTHER}, "max": 1, "prompt_id": OWNER})
@example("progress", {"value": 1, "max": 1, "more": {"prompt_id": OTHER}, "prompt_id": OWNER})
@example("progress", {"value": 1, "max": 1, "prompt_id": "é" * 6})
@example("progress", {"value": 1, "max": 1, "prompt_id": "short", "node": "0" * 25 + '"'})
@example("progress_state", {"prompt_id": "é" * 6, "nodes": {}})
def test_the_owner_told_from_a_gauges_first_bytes_is_the_one_that_decoding_tells(
    kind: str, data: Any
) -> None:
    raw = json.dumps({"type": kind, "data": data}).encode()
    owner = frames.gauge_owner(raw)
    assert owner is None or owner == frames.decode_text(raw).prompt_id


@given(st.sampled_from(KINDS), objects(values | ids))
def test_only_gauges_have_an_owner_told_from_their_first_bytes(kind: str, data: Any) -> None:
    raw = json.dumps({"type": kind, "data": data}).encode()
    assert frames.gauge_owner(raw) is None or kind in {"progress", "progress_state"}


def test_the_gauges_of_a_real_run_are_told_from_their_first_bytes() -> None:
    owner = str(uuid.uuid4())
    step, snapshot = wire.step(owner, "3", 1, 20), wire.snapshot(owner, {"3": (1, 20, "running")})
    assert frames.gauge_owner(step.raw) == owner
    assert frames.gauge_owner(snapshot.raw) == owner
    assert frames.is_step(step.raw)
    assert not frames.is_step(snapshot.raw)


@pytest.mark.parametrize(
    ("form", "media"), [(1, "image/jpeg"), (2, "image/png"), (9, "application/octet-stream")]
)
def test_a_preview_knows_its_media_type(form: int, media: str) -> None:
    event = frames.decode_binary(struct.pack(">II", 1, form) + b"bytes")
    assert event == events.Preview(media_type=media, data=b"bytes")


def test_a_preview_with_metadata_says_whose_it_is() -> None:
    event = wire.picture_of("p", "3", b"picture").event
    assert event == events.Preview(prompt_id="p", node="3", media_type="image/jpeg", data=b"picture")
    assert "picture" not in repr(event)


@pytest.mark.parametrize(
    "about",
    [b'{"node_id": 5, "prompt_id": "p"}', b'{"prompt_id": "p", "more": NaN}', b'{"node_id": "\\ud800"}'],
)
def test_odd_metadata_does_not_cost_the_picture(about: bytes) -> None:
    event = frames.decode_binary(struct.pack(">II", 4, len(about)) + about + b"picture")
    assert isinstance(event, events.Preview)
    assert event.data == b"picture"


def test_a_text_frame_names_its_node() -> None:
    assert wire.line_of("5:1", "läuft").event == events.ProgressText(node="5:1", text="läuft")
    torn = struct.pack(">II", 3, 1) + b"\xff\xfe"
    assert isinstance(frames.decode_binary(torn), events.ProgressText)


def test_an_unknown_kind_is_kept_as_bytes() -> None:
    assert frames.decode_binary(b"\0\0\0\x07abc") == Unknown(name="binary:7", data=b"abc")


@pytest.mark.parametrize("frame", [wire.picture(), wire.picture_of("p", "3"), wire.line_of("3", "x")])
def test_a_binary_frame_cut_at_any_byte_is_whole_or_broken(frame: wire.Frame) -> None:
    for end in range(len(frame.raw)):
        try:
            event = frames.decode_binary(frame.raw[:end])
        except BrokenFrame:
            continue
        assert isinstance(event, type(frame.event))


def test_the_greeting_asks_for_metadata() -> None:
    assert json.loads(frames.HELLO) == {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
