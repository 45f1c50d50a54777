"""Node declarations as they came from a server, and kept on disk."""

import gzip
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import CallerError, DeclarationCache, Declarations, Workflow

SERVER = "http://127.0.0.1:8188"
SAID = json.dumps(
    {"EmptyImage": {"input": {}}, "KSampler": {"input": {"required": {"seed": ["INT"]}}}}
).encode()

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
declared = st.dictionaries(st.text(), st.dictionaries(st.text(), values, max_size=3), max_size=5)


@given(declared, st.booleans(), st.sampled_from([None, 1]))
def test_each_class_is_what_python_s_reader_makes_of_the_whole(
    classes: dict[str, dict[str, object]], ascii_only: bool, indent: int | None
) -> None:
    """NaN, Infinity, lone surrogates and odd white space included: Python servers write them."""
    raw = json.dumps(classes, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    found = Declarations(raw)
    assert list(found) == list(classes)
    assert len(found) == len(classes)
    assert [json.dumps(found[name]) for name in found] == [json.dumps(one) for one in classes.values()]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"<html>",
        b'{"a": 1}',
        b'{"a": {"x": NaN}, "b": 1}',
        b'{"a": {}',
        b'{"a": {"x": NaN}',
        b'{"a": {"x": NaN}} {}',
        b'{"a": {"x": NaN},}',
        b'{"a" {"x": NaN}}',
        b"\xff",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_declares_no_classes_is_refused(raw: bytes) -> None:
    """Whatever else answers: no traceback of a reader's own."""
    with pytest.raises((ValueError, RecursionError)):
        Declarations(raw)


def test_an_unknown_class_is_a_key_error_and_a_known_one_can_be_asked_for() -> None:
    found = Declarations(SAID)
    assert "EmptyImage" in found
    assert "Nobody" not in found
    assert found.get("Nobody") is None
    with pytest.raises(KeyError):
        found["Nobody"]


def test_the_reader_of_workflows_takes_them(tmp_path: Path) -> None:
    """A picture's workflow is converted by the declarations of a real server, saved with curl."""
    saved = Path(__file__).parent / "object_info.json"
    found = Declarations.load(saved)
    assert found == json.loads(saved.read_text())
    zipped = tmp_path / "object_info.json.gz"
    zipped.write_bytes(gzip.compress(saved.read_bytes()))
    assert Declarations.load(zipped) == found
    ui = {
        "nodes": [{"id": 1, "type": "EmptyImage", "inputs": [], "widgets_values": [8, 9, 1, 5]}],
        "links": [],
        "version": 0.4,
    }
    converted = Workflow.load(ui).resolve(found)
    assert converted.to_api()["1"]["inputs"] == {"width": 8, "height": 9, "batch_size": 1, "color": 5}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\x1f\x8b garbage", gzip.compress(SAID, mtime=0)[:-9], b'{"a": 1}']
)
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(data)
    with pytest.raises(CallerError, match=r"x\.json: this is no object_info\. Save one"):
        Declarations.load(file)
    with pytest.raises(CallerError, match=r"absent\.json: cannot be read: No such file"):
        Declarations.load(tmp_path / "absent.json")


def keep(folder: Path, said: bytes = SAID, **more: object) -> DeclarationCache:
    cache = DeclarationCache(folder)
    found = Declarations(said, server=SERVER, version="0.33.0", **more)  # type: ignore[arg-type]  # just asked_at
    cache.write(found, fingerprint="a")
    return cache


def test_what_is_kept_comes_back_with_who_said_it_and_when(tmp_path: Path) -> None:
    cache = keep(tmp_path, asked_at=1234.5)
    found = cache.read(SERVER)
    assert found is not None
    assert (found.raw, found.server, found.version, found.asked_at) == (SAID, SERVER, "0.33.0", 1234.5)
    assert cache.read("http://127.0.0.1:8189") is None
    keep(tmp_path, b"{}")
    emptied = cache.read(SERVER)
    assert emptied is not None
    assert len(emptied) == 0
    assert len(list(tmp_path.iterdir())) == 1
    cache.forget(SERVER)
    cache.forget(SERVER)
    assert cache.read(SERVER) is None


def test_only_what_is_asked_for_comes_back(tmp_path: Path) -> None:
    """Of that version, with that fingerprint, no older; a time to come is none."""
    cache = keep(tmp_path)
    assert cache.read(SERVER, version="0.33.0", fingerprint="a", max_age_s=3600) is not None
    assert cache.read(SERVER, version="0.34.0") is None
    assert cache.read(SERVER, fingerprint="b") is None
    keep(tmp_path, asked_at=0)
    assert cache.read(SERVER) is not None
    assert cache.read(SERVER, max_age_s=3600) is None
    keep(tmp_path, asked_at=1e11)
    assert cache.read(SERVER, max_age_s=math.inf) is None


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    """Every byte of it, changed or cut off there."""
    cache = keep(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache.read(SERVER) is None, at
        file.write_bytes(whole[:at])
        assert cache.read(SERVER) is None, at
    file.write_bytes(whole)
    assert cache.read(SERVER) is not None


def test_a_file_of_another_server_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """As where somebody copied it."""
    cache = keep(tmp_path)
    (file,) = tmp_path.iterdir()
    other = DeclarationCache(tmp_path / "other")
    other.write(Declarations(b"{}", server="http://elsewhere"))
    next(other.folder.iterdir()).replace(file)
    assert cache.read(SERVER) is None


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(CallerError, match="cannot be written"):
        keep(blocked / "cache")
    cache = keep(tmp_path / "cache")
    (file,) = cache.folder.iterdir()
    file.unlink()
    file.mkdir()  # nothing can take its place
    (file / "x").touch()
    with pytest.raises(CallerError, match="cannot be written"):
        keep(tmp_path / "cache")
    assert [path.name for path in cache.folder.iterdir()] == [file.name]
    assert cache.read(SERVER) is None


def test_it_lies_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG base directories: a relative path in the variable is invalid and ignored."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert DeclarationCache().folder == tmp_path / "cache" / "async-comfy" / "object_info"
    for invalid in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", invalid)
        assert DeclarationCache().folder == tmp_path / ".cache" / "async-comfy" / "object_info"


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """What custom nodes a server has is its keeper's business."""
    cache = keep(tmp_path / "cache")
    assert cache.folder.stat().st_mode & 0o077 == 0
    assert next(cache.folder.iterdir()).stat().st_mode & 0o077 == 0
