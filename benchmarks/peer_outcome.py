"""One package, one workflow, one server: what the package says became of it, as one line of JSON.

Runs in the environment that holds the package. argv: the package, the server's URL, the URL of a
comfy-api-proxy before it, and the workflow as JSON. Says `files`, how many the package gave back, or
`error`, what it raised.
"""

import asyncio
import json
import os
import sys
import uuid
from typing import Any
from urllib.parse import urlsplit

OUTPUT = "7"  # the node that saves


async def async_comfy(url: str, proxy: str, workflow: dict[str, Any]) -> int:
    from async_comfy import Session

    async with Session(url) as session:
        return len((await session.run(workflow)).files)


async def comfy_sdk(url: str, proxy: str, workflow: dict[str, Any]) -> int:
    from comfy_sdk import AsyncComfy  # type: ignore[import-not-found,unused-ignore]  # in its own environment

    os.environ["COMFY_BASE_URL"] = proxy
    async with AsyncComfy() as client:
        job = await client.run(client.workflows.from_json(workflow))
        return len(job.get_outputs(OUTPUT))


async def comfy_api_client(url: str, proxy: str, workflow: dict[str, Any], how: str = "websocket") -> int:
    from comfy_api_client import create_client  # type: ignore[import-not-found,unused-ignore]  # as above

    async with create_client(urlsplit(url).netloc, start_state_tracker=how) as client:
        prompt = await client.submit_workflow(workflow)
        return len((await prompt.future).output_images)


async def comfy_api_client_http(url: str, proxy: str, workflow: dict[str, Any]) -> int:
    return await comfy_api_client(url, proxy, workflow, "http")


async def comfy_catapult(url: str, proxy: str, workflow: dict[str, Any]) -> int:
    from comfy_catapult.api_client import ComfyAPIClient  # type: ignore[import-not-found,unused-ignore]  # as above
    from comfy_catapult.catapult import ComfyCatapult  # type: ignore[import-not-found,unused-ignore]  # as above

    async with ComfyCatapult(ComfyAPIClient(url), debug_path=None) as catapult:
        job = str(uuid.uuid4())
        _, future = await catapult.Catapult(
            job_id=job, prepared_workflow=workflow, important=[OUTPUT], use_future_api=True
        )
        result = await future
        return len(result["outputs"][OUTPUT]["images"])


async def outcome(package: str, url: str, proxy: str, workflow: str) -> dict[str, Any]:
    """What the package says; whatever it raises is its answer."""
    try:
        return {"files": await globals()[package](url, proxy, json.loads(workflow))}
    except Exception as error:  # noqa: BLE001  # see above
        return {"error": f"{type(error).__name__}: {error}"[:160]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(outcome(*sys.argv[1:]))), flush=True)
