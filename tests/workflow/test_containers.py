"""Media files that ComfyUI made give their workflow back, damaged ones a clear reason."""

import io
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from async_comfy.errors import WorkflowError
from async_comfy.workflow import Workflow

PROMPT: dict[str, Any] = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "text": "žluťoučký kůň"}}}
UI: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
TEXTS = {"prompt": json.dumps(PROMPT), "workflow": json.dumps(UI)}
MAKE, MODEL, DESCRIPTION, USER_COMMENT = 0x010F, 0x0110, 0x010E, 0x9286


def picture(format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(stream, format_, **options)
    return stream.getvalue()


def png(texts: dict[str, str], *, kind: str = "tEXt") -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        if kind == "iTXt":
            info.add_itxt(name, text, zip=False)
        elif kind == "iTXt packed":
            info.add_itxt(name, text, zip=True)
        else:
            info.add_text(name, text, zip=kind == "zTXt")
    return picture("PNG", pnginfo=info)


def exif(tags: dict[int, str]) -> Image.Exif:
    found = Image.Exif()
    for tag, text in tags.items():
        found[tag] = text
    return found


def user_comment(text: bytes) -> Image.Exif:
    found = Image.Exif()
    found.get_ifd(0x8769)[USER_COMMENT] = text
    return found


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def data(text: str) -> bytes:
    return box(b"data", struct.pack(">II", 1, 0), text.encode())


def mp4(meta: bytes, *, front: bytes = b"") -> bytes:
    return box(b"ftyp", b"isom\0\0\2\0isomiso2") + front + box(b"mdat", b"\0" * 50) + box(b"moov", meta)


def keyed(texts: dict[str, str]) -> bytes:
    """As ffmpeg writes arbitrary tags: names in `keys`, values in `ilst` under their number."""
    names = b"".join(struct.pack(">I4s", 8 + len(name), b"mdta") + name.encode() for name in texts)
    items = [box(struct.pack(">I", n), data(text)) for n, text in enumerate(texts.values(), 1)]
    keys = box(b"keys", struct.pack(">II", 0, len(texts)), names)
    return box(b"meta", b"\0" * 4, box(b"hdlr", b"\0" * 25), keys, box(b"ilst", *items))


def flac(texts: dict[str, str]) -> bytes:
    comments = [f"{name}={text}".encode() for name, text in texts.items()]
    vendor = b"maker"
    body = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(comments))
    body += b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    blocks = b"\0" + (34).to_bytes(3, "big") + b"\0" * 34 + b"\x84" + len(body).to_bytes(3, "big") + body
    return b"fLaC" + blocks + b"\xff\xf8sound"


FILES = {
    "PNG tEXt": png({**TEXTS, "other": "x"}),
    "PNG zTXt": png(TEXTS, kind="zTXt"),
    "PNG iTXt": png(TEXTS, kind="iTXt"),
    "PNG iTXt packed": png(TEXTS, kind="iTXt packed"),
    "WebP": picture(
        "WEBP", exif=exif({MODEL: f"prompt:{TEXTS['prompt']}", MAKE: f"workflow:{TEXTS['workflow']}"})
    ),
    "JPEG": picture(
        "JPEG", exif=exif({MODEL: f"Prompt: {TEXTS['prompt']}", MAKE: f"Workflow: {TEXTS['workflow']}"})
    ),
    "JPEG comment of the user": picture(
        "JPEG", exif=user_comment(b"UNICODE\0" + json.dumps({**TEXTS}).encode("utf-16-be"))
    ),
    "MP4 keys": mp4(keyed(TEXTS)),
    "MP4 keys in udta": mp4(box(b"udta", keyed(TEXTS))),
    "MP4 comment": mp4(
        box(
            b"udta",
            box(
                b"meta",
                b"\0" * 4,
                box(b"hdlr", b"\0" * 25),
                box(b"ilst", box(b"\xa9cmt", data(json.dumps(TEXTS)))),
            ),
        )
    ),
    "MP4 64-bit box": mp4(keyed(TEXTS), front=struct.pack(">I4sQ", 1, b"free", 20) + b"\0" * 4),
    "FLAC": flac(TEXTS),
    "FLAC upper case": flac({name.upper(): text for name, text in TEXTS.items()}),
}


@pytest.mark.parametrize("name", FILES)
def test_prompt_and_editors_document_come_out_of_every_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_bytes(FILES[name])
    for source in (FILES[name], path):
        workflow = Workflow.load(source)
        assert workflow.to_api() == PROMPT
        assert workflow.ui == UI


def test_a_picture_with_the_editors_document_alone_is_in_the_editors_format() -> None:
    assert Workflow.load(png({"workflow": json.dumps(UI)})).format == "ui"
    assert Workflow.load(png({"prompt": "{}", "workflow": json.dumps(UI)})).format == "ui"


def test_of_prompt_and_document_either_is_enough() -> None:
    assert Workflow.load(png({**TEXTS, "workflow": "{broken"})).to_api() == PROMPT
    assert Workflow.load(png({**TEXTS, "prompt": "a cat on a mat"})).ui == UI
    assert Workflow.load(png({**TEXTS, "prompt": "{broken"})).format == "ui"


def test_nan_in_the_embedded_prompt_is_read() -> None:
    text = json.dumps({"1": {"class_type": "A", "inputs": {"x": float("nan")}}})
    value = Workflow.load(png({"prompt": text}))["1"].inputs["x"]
    assert value != value


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (picture("PNG"), "this PNG holds no workflow"),
        (picture("JPEG"), "this JPEG holds no workflow"),
        (picture("WEBP"), "this WebP holds no workflow"),
        (mp4(b""), "this MP4 holds no workflow"),
        (flac({}), "this FLAC holds no workflow"),
        (png({"parameters": "a cat, steps: 20"}), "AUTOMATIC1111"),
        (png({"prompt": "{broken"}), "its prompt"),
        (png({"prompt": "[" * 5000 + "]" * 5000}), "nested"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_media_file_without_a_workflow_says_so(file: bytes, says: str) -> None:
    with pytest.raises(WorkflowError, match=says.replace("[", "\\[")):
        Workflow.load(file)


def chunk(kind: bytes, body: bytes, *, claims: int | None = None) -> bytes:
    size = len(body) if claims is None else claims
    return struct.pack(">I4s", size, kind) + body + struct.pack(">I", zlib.crc32(kind + body))


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_a_huge_chunk_that_holds_no_text_is_skipped_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.write(SIGNATURE + struct.pack(">I4s", 2_000_000_000, b"IDAT"))
        file.seek(2_000_000_000 + 4, 1)  # a hole: takes no room on the disk
        file.write(chunk(b"tEXt", b"prompt\0" + json.dumps(PROMPT).encode("latin-1")) + chunk(b"IEND", b""))
    assert Workflow.load(path).to_api() == PROMPT


def test_a_text_that_claims_gigabytes_is_refused() -> None:
    with pytest.raises(WorkflowError, match="claims 1907 MiB"):
        Workflow.load(SIGNATURE + chunk(b"tEXt", b"prompt\0", claims=2_000_000_000))


def test_a_fifty_megabyte_text_of_garbage_is_refused() -> None:
    for garbage in (b"\x01", b"{"):
        with pytest.raises(WorkflowError, match=r"its prompt|no workflow"):
            Workflow.load(SIGNATURE + chunk(b"tEXt", b"prompt\0" + garbage * 50_000_000))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_packed_text_that_unpacks_without_end_is_refused(kind: bytes) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"[" * 10_000_000) for _ in range(20)) + packer.flush()
    assert len(packed) < 1_000_000
    head = b"prompt\0\0" if kind == b"zTXt" else b"prompt\0\1\0\0\0"
    with pytest.raises(WorkflowError, match="unpacks to more than 64 MiB"):
        Workflow.load(SIGNATURE + chunk(kind, head + packed))


def test_a_thousand_packed_texts_are_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from async_comfy.workflow import containers

    unpacked: list[int] = []
    inflate = containers._inflated

    def counted(data: bytes, what: str) -> bytes:
        unpacked.append(1)
        return inflate(data, what)

    monkeypatch.setattr(containers, "_inflated", counted)
    text = chunk(b"zTXt", b"prompt\0\0" + zlib.compress(json.dumps(PROMPT).encode()))
    other = chunk(b"zTXt", b"other\0\0" + zlib.compress(b"x"))
    assert Workflow.load(SIGNATURE + (text + other) * 1000 + chunk(b"IEND", b"")).to_api() == PROMPT
    assert unpacked == [1]


def test_exif_texts_that_overlap_a_thousandfold_are_refused() -> None:
    text = b"prompt:" + b" " * 60_000
    count = 4000
    entries = b"".join(struct.pack("<HHII", 0x0110, 2, len(text), 8) for _ in range(count))
    body = b"II*\0" + struct.pack("<I", 8 + len(text)) + text + struct.pack("<H", count) + entries
    riff = b"WEBP" + struct.pack("<4sI", b"EXIF", len(body)) + body
    with pytest.raises(WorkflowError, match="overlap"):
        Workflow.load(b"RIFF" + struct.pack("<I", len(riff)) + riff)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_cut_off_or_damaged_anywhere_it_loads_or_gives_a_workflow_error(
    name: str, draw: st.DataObject
) -> None:
    file = bytearray(FILES[name])
    for _ in range(draw.draw(st.integers(0, 4))):
        file[draw.draw(st.integers(0, len(file) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(file)))
    with suppress(WorkflowError):
        Workflow.load(bytes(file[:cut]))
