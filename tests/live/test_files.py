"""Files up and down: sent once, streamed, resumed, safe, never half there."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from async_comfy import CallerError, File, NotFound, OutputFile, Session, Workflow
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture

pytestmark = pytest.mark.anyio


def inverted(image: object) -> Workflow:
    workflow = Workflow()
    loaded = workflow.add("LoadImage", image=image)
    turned = workflow.add("ImageInvert", image=loaded[0])
    workflow.add("SaveImage", title="Out", images=turned[0], filename_prefix="inverted")
    return workflow


def red(path: Path) -> Path:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path)
    return path


async def test_a_picture_in_a_workflow_is_uploaded_once_and_its_output_saved(tmp_path: Path) -> None:
    """A path where a file name belongs goes to the server first; the same bytes are sent once."""
    source = red(tmp_path / "red.png")
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(inverted(source))
        await session.run(inverted(File(source.read_bytes())))
        uploads = server.requests.count("POST", "/upload/image")
        (saved,) = await result.save(tmp_path / "out")

    assert uploads == 1
    assert Image.open(saved).convert("RGB").getpixel((0, 0)) == (0, 255, 255)


async def test_another_session_finds_what_an_earlier_one_sent(tmp_path: Path) -> None:
    """The name on the server tells the content, so one byte tells that it is there."""
    source = red(tmp_path / "red.png")
    async with SimulatedServer() as server:
        for _ in range(2):
            async with Session(server.url) as session:
                uploaded = await session.upload(source)
        assert server.requests.count("POST", "/upload/image") == 1
    assert uploaded.name.endswith(".png")


async def test_whatever_holds_bytes_can_be_uploaded(tmp_path: Path) -> None:
    """Path, bytes, stream, Pillow picture and URL all arrive as the same file."""
    source = red(tmp_path / "red.png")
    data = source.read_bytes()

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 7):
            yield data[at : at + 7]

    async with SimulatedServer() as server, Session(server.url) as session:
        first = await session.upload(source)
        url = f"{server.url}/view?filename={first.name}&type=input"
        others = [await session.upload(item) for item in (data, stream(), Image.open(source), url)]
        (image,) = [await session.upload(Image.open(source))]

    assert all(other.name == first.name for other in others if other != image)
    assert first.path == first.name


async def test_a_name_with_any_letters_survives(tmp_path: Path) -> None:
    """File names are sent verbatim and not percent-encoded; a subfolder is honoured."""
    async with SimulatedServer() as server, Session(server.url) as session:
        uploaded = await session.upload(File(b"data", name="Füchse im Schnee %20.png", subfolder="wald"))

    assert uploaded.name == "Füchse im Schnee %20.png"
    assert uploaded.path == "wald/Füchse im Schnee %20.png"


async def test_a_mask_goes_to_its_picture(tmp_path: Path) -> None:
    """`mask_of` sends the alpha channel of a picture as that picture's mask."""
    source = red(tmp_path / "red.png")
    mask = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    async with SimulatedServer() as server, Session(server.url) as session:
        original = await session.upload(source)
        masked = await session.upload(mask, mask_of=original)
        assert server.requests.count("POST", "/upload/mask") == 1
    assert masked.name


async def test_a_mask_for_a_picture_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The server answers 200 and writes nothing; that is no success."""
    from async_comfy import Uploaded

    mask = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(NotFound, match="to mask"):
            await session.upload(mask, mask_of=Uploaded("nobody.png"))


async def test_existing_files_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    """Saving never replaces a file silently."""
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(1))
        first = await result.save(tmp_path)
        second = await result.save(tmp_path)
        skipped = await result.save(tmp_path, existing="skip")
        replaced = await result.save(tmp_path, existing="overwrite")
        with pytest.raises(CallerError, match="exists"):
            await result.save(tmp_path, existing="error")

    assert first == skipped == replaced
    assert second[0].name == "picture_00001_ (1).png"
    assert sorted(path.name for path in tmp_path.iterdir()) == [second[0].name, first[0].name]


async def test_names_follow_the_template_and_only_the_template_makes_folders(tmp_path: Path) -> None:
    """Values in a template cannot add folders."""
    async with SimulatedServer() as server, Session(server.url) as session:
        workflow = picture(2)
        workflow["Out"].title = "../evil/title"
        result = await session.run(workflow)
        (saved,) = await result.save(tmp_path, name="day/{title}_{index:03}")
        with pytest.raises(CallerError, match="nothing"):
            await result.save(tmp_path, name="{nothing}")

    assert saved == tmp_path / "day" / saved.name
    assert saved.parent == tmp_path / "day"
    assert saved.suffix == ".png"


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.png",
        "/etc/evil.png",
        "C:\\evil.png",
        "..\\..\\evil.png",
        "a/../../evil.png",
        "con.png",
        "\x00",
    ],
)
async def test_no_name_from_a_server_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """Whatever a server names its files, they are written below the folder."""
    folder = tmp_path / "out"
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(3))
        evil = OutputFile(node="1", kind="images", filename=name, data=b"evil", source=result.files[0].source)
        (saved,) = await type(result)(prompt_id="x", outputs={}, files=(evil,)).save(folder)

    assert saved.resolve().is_relative_to(folder.resolve())
    assert saved.read_bytes() == b"evil"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


async def test_a_link_in_the_folder_does_not_lead_out(tmp_path: Path) -> None:
    """A folder below the output folder that is a link elsewhere is refused; a linked file is not followed."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "day").symlink_to(elsewhere)
    (out / "picture_00001_.png").symlink_to(elsewhere / "target.png")
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(4))
        with pytest.raises(CallerError, match="lead out"):
            await result.save(out, name="day/{stem}")
        (saved,) = await result.save(out)

    assert saved.name == "picture_00001_ (1).png"
    assert not list(elsewhere.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a folder that nobody may write to")
async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One sentence, and nothing half-written."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(5))
        with pytest.raises(CallerError, match="Cannot write to"):
            await result.save(blocked / "out")


async def test_a_file_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    """`NotFound`, and no part of a file in the folder."""
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(6))
        (server.folders["output"] / result.files[0].filename).unlink()
        with pytest.raises(NotFound):
            await result.save(tmp_path)

    assert list(tmp_path.iterdir()) == []


async def test_part_of_a_file_can_be_streamed() -> None:
    """`start` asks for a range."""
    async with SimulatedServer() as server, Session(server.url) as session:
        (file,) = (await session.run(picture(7))).files
        whole = await file.read()
        rest = b"".join([chunk async for chunk in file.stream(start=10)])
        beyond = b"".join([chunk async for chunk in file.stream(start=len(whole))])

    assert rest == whole[10:]
    assert beyond == b""


async def test_a_file_known_by_its_name_alone_is_read_streamed_and_saved(tmp_path: Path) -> None:
    """As one of a result; a subfolder may stand before the name, or apart from it."""
    async with SimulatedServer() as server, Session(server.url) as session:
        await session.upload(File(b"0123456789", name="told ä.txt", subfolder="sub/dir"))
        for file in (
            session.files.open("sub/dir/told ä.txt", folder="input"),
            session.files.open("dir/told ä.txt", folder="input", subfolder="sub"),
            session.files.open("told ä.txt", folder="input", subfolder="sub/dir"),
        ):
            assert await file.read() == b"0123456789"
            assert b"".join([chunk async for chunk in file.stream(start=7)]) == b"789"
            assert (file.media_type, file.node, file.subfolder) == ("text/plain", "", "sub/dir")
        saved = await file.save(tmp_path / "out" / "here.txt")
        assert saved.read_bytes() == b"0123456789"
        assert await session.files.view("sub/dir/told ä.txt", folder="input") == b"0123456789"
        with pytest.raises(NotFound):
            await session.files.open("told ä.txt", folder="input").read()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret", "a/../../b", "folder/", "..\\secret"])
async def test_no_name_for_a_server_leads_out_of_its_folders(name: str) -> None:
    """Refused here: the server answers 400, 403 (as if credentials were wrong), or with another file."""
    async with SimulatedServer() as server, Session(server.url) as session:
        asked = len(server.requests)
        with pytest.raises(CallerError, match="no name of a file"):
            session.files.open(name)
        with pytest.raises(CallerError, match="no name of a file"):
            await session.files.view(name)
        assert len(server.requests) == asked


async def test_a_folder_that_no_server_has_is_not_sent() -> None:
    """The server answers 500 to the upload and 400 to the others."""
    wrong: Any = "inputs"
    async with SimulatedServer() as server, Session(server.url) as session:
        asked = len(server.requests)
        says = "no folder 'inputs'. It is one of input, output, temp"
        with pytest.raises(CallerError, match=says):
            await session.upload(File(b"x", folder=wrong))
        with pytest.raises(CallerError, match=says):
            await session.files.view("a.png", folder=wrong)
        with pytest.raises(CallerError, match=says):
            await session.files.list(wrong)
        with pytest.raises(CallerError, match=says):
            session.files.open("a.png", folder=wrong)
        workflow = inverted(File(b"x", folder=wrong))
        with pytest.raises(CallerError, match=says):
            await session.submit(workflow)
        assert len(server.requests) == asked


@pytest.mark.parametrize("subfolder", ["../x", "/etc", "a/../b", "..\\x", "."])
async def test_a_subfolder_that_leads_elsewhere_is_not_sent(subfolder: str) -> None:
    async with SimulatedServer() as server, Session(server.url) as session:
        asked = len(server.requests)
        with pytest.raises(CallerError, match="leads elsewhere"):
            await session.upload(File(b"x", subfolder=subfolder))
        with pytest.raises(CallerError, match="leads elsewhere"):
            session.files.open("a.png", subfolder=subfolder)
        assert len(server.requests) == asked


async def test_what_is_no_picture_is_not_shown_smaller() -> None:
    """The server stumbles over it and says 500; without wishes it gives the file."""
    async with SimulatedServer() as server, Session(server.url) as session:
        sent = await session.upload(File(b"text", name="a.txt"))
        with pytest.raises(CallerError, match=r"cannot show 'a\.txt' as a picture"):
            await session.files.view(sent.name, folder="input", preview="webp;50")
        with pytest.raises(CallerError, match=r"cannot show 'a\.txt' as a picture"):
            await session.files.view(sent.name, folder="input", channel="rgb")
        assert await session.files.view(sent.name, folder="input") == b"text"


async def test_a_file_larger_than_the_server_takes_is_said_to_be() -> None:
    """413: which option of the server sets the limit."""
    async with SimulatedServer(max_upload_bytes=100_000) as server, Session(server.url) as session:
        with pytest.raises(CallerError, match=r"big\.bin is larger than .*--max-upload-size"):
            await session.upload(File(bytes(200_000), name="big.bin"))
        assert (await session.upload(File(bytes(50_000), name="small.bin"))).name == "small.bin"
