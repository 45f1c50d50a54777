"""What a user's typed code looks like: checked, never run."""

from async_comfy import ComfyError, Event, Job, Preview, Progress, Result, Session, Workflow


async def follow(session: Session, path: str) -> Result:
    workflow = Workflow.load(path)
    workflow["6"].inputs["text"] = "a red fox in snow"
    job: Job = await session.submit(workflow)
    event: Event
    async for event in job:
        if isinstance(event, Progress):
            print(event.node, event.value, event.max)
    preview: Preview
    async for preview in job.previews():
        print(preview.media_type, len(preview.data))
    result: Result = await job
    for path_written in await result.save("out/"):
        print(path_written.name)
    return result


async def in_a_word(path: str) -> str:
    try:
        async with Session("http://127.0.0.1:8188", api_key="...") as session:
            return (await session.run(path)).prompt_id
    except ComfyError as error:
        return error.hint
