"""Names from a server stay below the folder they are put in, on every system."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_comfy.filenames import LONGEST_BYTES, numbered, safe_name, safe_path

alphabet = st.sampled_from("ab./\\:.. ~\x00\n\u00a0\u2028\ud800äcon") | st.characters()
names = st.text(alphabet, max_size=40) | st.sampled_from(
    ["../x", "..", "C:\\x", "/etc/passwd", "con.png", "\\\\h\\s"]
)


@given(names)
@example("..\u00a0/../x")
@example("a/..\\../../b")
@example("//[x")
def test_a_path_never_leaves_the_folder(name: str) -> None:
    path = safe_path(name)
    assert str(path) not in {"", "."}
    assert not path.is_absolute()
    assert not PureWindowsPath(path).drive
    assert not PureWindowsPath(path).root
    assert ".." not in path.parts
    assert "\\" not in str(path)


@given(names)
@example("a" * 199 + " b" + "c" * 40)
@example("a" * 199 + ". b" + "c" * 40)
@example(".\u00a0.")
def test_a_safe_name_is_left_as_it_is(name: str) -> None:
    assert safe_path(str(safe_path(name))) == safe_path(name)
    assert safe_name(safe_name(name)) == safe_name(name)


@given(names | st.text(min_size=180, max_size=400) | st.text("ä😀.", min_size=90, max_size=120))
def test_every_part_can_be_written_on_every_system(name: str) -> None:
    for part in safe_path(name).parts:
        assert 0 < len(part.encode()) <= LONGEST_BYTES
        assert not part.endswith((" ", "."))
        assert not set(part) & set('<>:"|?*\0\n')


@pytest.mark.parametrize(
    "name", ["con", "CON", "nul.png", "com1.tar.gz", "lpt9", "aux.", "Con .png", "com¹", "CONIN$", "conout$"]
)
def test_a_name_that_a_system_reserves_is_changed(name: str) -> None:
    stem = str(safe_path(name)).partition(".")[0].rstrip().lower()
    assert stem not in {"con", "nul", "com1", "lpt9", "aux", "com¹", "conin$", "conout$"}


@pytest.mark.parametrize(
    "name", ["icon.png", "console.txt", "comfy_00001_.png", "näme ✓ sp.png", "sub/a.b.c.png"]
)
def test_an_honest_name_is_kept(name: str) -> None:
    assert str(safe_path(name)) == name


@pytest.mark.parametrize("name", ["", ".", "..", "/", "\\", " ", "./..", "\x00".strip("\x00")])
def test_a_name_of_nothing_gets_one(name: str) -> None:
    assert safe_path(name) == PurePosixPath("unnamed")


def test_a_long_name_keeps_its_suffix() -> None:
    path = safe_path("ä" * 300 + ".png")
    assert path.suffix == ".png"
    assert len(path.name.encode()) <= LONGEST_BYTES


@given(names, st.integers(1, 10**6))
def test_a_numbered_name_stays_beside_the_first(name: str, number: int) -> None:
    path = safe_path(name)
    assert numbered(path, number).parent == path.parent
    assert numbered(path, number) != path


def test_a_number_comes_before_the_suffix() -> None:
    assert numbered(PurePosixPath("sub/a.png"), 2) == PurePosixPath("sub/a (2).png")
