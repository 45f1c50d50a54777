"""What core nodes do, on any server: run, cache, show, send, refuse."""

import asyncio
import io

import pytest
from PIL import Image

from async_comfy import (
    Executing,
    ExecutionCached,
    ExecutionStart,
    ExecutionSuccess,
    File,
    Rejected,
    Session,
    Workflow,
)
from tests.live.pictures import picture

pytestmark = pytest.mark.anyio


async def test_a_picture_is_made_told_and_fetched(session: Session, fresh: int) -> None:
    """The normal order of events, one POST, and the file behind the output."""
    requests = session.statistics().requests
    job = await session.submit(picture(fresh))
    events = [event async for event in job]
    result = await job
    assert session.statistics().requests == requests + 1

    facts = [
        event
        for event in events
        if isinstance(event, ExecutionStart | ExecutionCached | Executing | ExecutionSuccess)
    ]
    assert [type(event).__name__ for event in facts] == [
        "ExecutionStart",
        "ExecutionCached",
        "Executing",
        "Executing",
        "ExecutionSuccess",
        "Executing",
    ]
    (image,) = result.images
    assert (image.folder, image.node) == ("output", "2")
    pixel = Image.open(io.BytesIO(await image.read())).convert("RGB").getpixel((0, 0))
    assert pixel == (fresh >> 16, fresh >> 8 & 255, fresh & 255)


async def test_the_second_run_is_cached_and_says_so(session: Session, fresh: int) -> None:
    """Same inputs, same file; the nodes are listed as cached."""
    first = await session.run(picture(fresh))
    again = await session.run(picture(fresh))
    assert again.cached == {"1", "2"}
    assert again.files[0].filename == first.files[0].filename


async def test_previews_lie_in_the_temp_folder(session: Session, fresh: int) -> None:
    """PreviewImage's files are of type temp, and /view serves them when asked so."""
    (image,) = (await session.run(picture(fresh, save="PreviewImage"))).images
    assert image.folder == "temp"
    assert (await image.read()).startswith(b"\x89PNG")


async def test_pictures_over_the_socket_are_outputs(session: Session, fresh: int) -> None:
    """SaveImageWebsocket: as many pictures as the batch has, and no file."""
    result = await session.run(picture(fresh, save="SaveImageWebsocket", batch=3))
    assert [image.folder for image in result.images] == ["socket"] * 3
    assert [(await image.read())[:4] for image in result.images] == [b"\x89PNG"] * 3


async def test_an_uploaded_picture_is_worked_on(session: Session, fresh: int) -> None:
    """Upload, LoadImage, ImageInvert, SaveImage: the bytes go there and come back turned."""
    color = (fresh >> 16, fresh >> 8 & 255, fresh & 255)
    source = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(source, "PNG")
    workflow = Workflow()
    loaded = workflow.add("LoadImage", image=File(source.getvalue()))
    turned = workflow.add("ImageInvert", image=loaded[0])
    workflow.add("SaveImage", images=turned[0], filename_prefix="conformance")
    (image,) = (await session.run(workflow)).images
    made = Image.open(io.BytesIO(await image.read())).convert("RGB")
    assert made.size == (9, 7)
    turned_back = [255 - int(value) for value in made.getpixel((3, 3)) or ()]  # type: ignore[union-attr]  # RGB
    assert all(abs(value - given) <= 1 for value, given in zip(turned_back, color, strict=True))  # floats


async def test_a_wrong_value_is_refused_with_node_input_and_bounds(session: Session) -> None:
    """value_smaller_than_min: what was given, and what is allowed."""
    workflow = picture(1)
    workflow.set("Paper.width", 0)
    with pytest.raises(Rejected) as refused:
        await session.submit(workflow)
    (problem,) = [problem for problem in refused.value.problems if problem.input == "width"]
    assert problem.kind == "value_smaller_than_min"
    assert problem.node == "1"
    assert problem.given == 0
    assert "from 1" in problem.allowed


async def test_an_unknown_class_is_refused(session: Session) -> None:
    """The class is named, and what to do about it."""
    workflow = picture(1)
    workflow.add("NoSuchNodeAnywhere", images=workflow["Paper"][0])
    with pytest.raises(Rejected, match="NoSuchNodeAnywhere"):
        await session.submit(workflow)


async def test_a_choice_that_is_not_there_is_refused_with_the_choices(session: Session) -> None:
    """value_not_in_list: the choices come with it, or are asked for."""
    workflow = picture(1)
    scaled = workflow.add(
        "ImageScale",
        image=workflow["Paper"][0],
        upscale_method="nearest-ish",
        width=8,
        height=8,
        crop="disabled",
    )
    workflow["Out"].inputs["images"] = scaled[0]
    with pytest.raises(Rejected) as refused:
        await session.submit(workflow)
    (problem,) = [problem for problem in refused.value.problems if problem.input == "upscale_method"]
    assert problem.kind == "value_not_in_list"
    assert "lanczos" in problem.allowed


async def test_no_output_is_refused(session: Session) -> None:
    """A prompt that shows and saves nothing is not run."""
    workflow = Workflow()
    workflow.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
    with pytest.raises(Rejected) as refused:
        await session.submit(workflow)
    assert refused.value.kind == "prompt_no_outputs"


async def test_fifty_at_once_keep_to_themselves(session: Session, fresh: int) -> None:
    """Each result is its own prompt's."""
    colors = [(fresh + index) % 2**24 for index in range(50)]
    results = await asyncio.gather(*(session.run(picture(color)) for color in colors))
    for color, result in zip(colors, results, strict=True):
        pixel = Image.open(io.BytesIO(await result.files[0].read())).convert("RGB").getpixel((0, 0))
        assert pixel == (color >> 16, color >> 8 & 255, color & 255)


async def test_a_waiting_job_is_cancelled_and_no_other(session: Session, fresh: int) -> None:
    """Of several, one that waits is taken out; the others end well."""
    slow = picture(fresh)
    slow.set("Paper.width", 2048)
    slow.set("Paper.height", 2048)
    first, *others = [await session.submit(slow), *[await session.submit(picture(fresh)) for _ in range(3)]]
    await others[1].cancel()
    results = await asyncio.gather(first, others[0], others[2])
    assert all(result.files for result in results)
    assert others[1].state in {"cancelled", "completed"}


async def test_the_editor_s_workflow_travels_with_the_prompt(session: Session, fresh: int) -> None:
    """What was sent as UI workflow and prompt is embedded in the picture, and loads again."""
    result = await session.run(picture(fresh))
    again = Workflow.load(await result.files[0].read())
    assert again.to_api()["1"]["inputs"]["color"] == fresh
