"""Pictures from a web page: FastAPI before a ComfyUI.

    $ ASYNC_COMFY_URL=http://127.0.0.1:8188 uvicorn app:app --timeout-graceful-shutdown 3

One session serves every visitor for as long as the app lives. A job belongs to the page that asked for it:
when that page goes away, the job is cancelled.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from guard import Guard
from orders import Order, Orders, told
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as AnyHTTPException

from async_comfy import (
    ComfyError,
    NetworkError,
    NotFound,
    Rejected,
    Session,
    TimedOut,
    Workflow,
    WorkflowError,
)

HERE = Path(__file__).parent
URL = os.environ.get("ASYNC_COMFY_URL", "http://127.0.0.1:8188")
WORKFLOW = Workflow.load(HERE.parent / "sdxl_text_to_image.json")
CANCEL_S = 30.0  # a node looks up from its work at each step, and some steps take long
MOST_OPEN = 32  # jobs at once; more would wait so long that their visitors are gone
SEED_MAX = 2**53 - 1  # the largest whole number that JavaScript says exactly


class Wish(BaseModel):
    """What a visitor may ask for, and how much of it."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=1000)
    negative: str = Field("blurry, watermark, text", max_length=1000)
    width: int = Field(1024, ge=256, le=1536, multiple_of=8)
    height: int = Field(1024, ge=256, le=1536, multiple_of=8)
    steps: int = Field(20, ge=1, le=60)
    seed: int | None = Field(None, ge=0, le=SEED_MAX)

    def workflow(self) -> Workflow:
        """The workflow that makes it."""
        workflow = WORKFLOW.copy()
        workflow["Positive Prompt"].inputs["text"] = self.prompt
        workflow["Negative Prompt"].inputs["text"] = self.negative
        workflow["EmptyLatentImage"].inputs.update(width=self.width, height=self.height)
        workflow["KSampler"].inputs["steps"] = self.steps
        return workflow


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The one session, and what was ordered through it."""
    async with Session(URL) as session, Orders() as orders:
        yield {"session": session, "orders": orders}


# Without the pages at /docs and /redoc: they load scripts from elsewhere.
app = FastAPI(title="Studio", lifespan=lifespan, docs_url=None, redoc_url=None)
app.add_middleware(Guard)


async def ordered(prompt_id: str, request: Request) -> Order:
    """The order of that id; ids are random, so only who was given one knows it."""
    order: Order | None = request.state.orders.get(prompt_id)
    if order is None:
        raise HTTPException(404, "There is no such job any more.")
    return order


async def watched(order: Annotated[Order, Depends(ordered)]) -> AsyncIterator[Order]:
    """The order, watched from here until the response ended or the browser went away."""
    with order.watched():
        yield order


@app.post("/generate", status_code=202)
async def generate(wish: Wish, request: Request) -> dict[str, str]:
    """Takes an order; `events` is where to hear of it."""
    session: Session = request.state.session
    if session.statistics().open_jobs >= MOST_OPEN:
        raise HTTPException(503, "All places are taken. Try again in a minute.")
    seed = secrets.randbelow(SEED_MAX + 1) if wish.seed is None else wish.seed
    job = await session.submit(wish.workflow(), seed=seed, preview="auto")
    request.state.orders.add(Order(job))
    return {"id": job.id, "events": f"jobs/{job.id}/events"}


@app.get("/jobs/{prompt_id}/events", response_class=EventSourceResponse)
async def events(order: Annotated[Order, Depends(watched)]) -> AsyncIterator[ServerSentEvent]:
    """`progress` and `preview`, then one `done` or `failed`. A browser that comes back goes on from now."""
    async for name, data in order.news():
        yield ServerSentEvent(event=name, data=data, retry=1000)


@app.get("/jobs/{prompt_id}/images/{index}")
async def image(order: Annotated[Order, Depends(ordered)], index: int) -> Response:
    """A finished picture, from the ComfyUI; by number, so that nobody can ask for another file."""
    images = (await order.job).images if order.job.state == "completed" else ()
    if not 0 <= index < len(images):
        raise HTTPException(404, "There is no such picture.")
    picture = images[index]
    return Response(await picture.read(), media_type=picture.media_type)


@app.delete("/jobs/{prompt_id}", status_code=204)
async def cancel(order: Annotated[Order, Depends(ordered)]) -> None:
    """Stops this job and no other."""
    await order.job.cancel(timeout=CANCEL_S)


STATUS = {Rejected: 422, WorkflowError: 422, NotFound: 404, TimedOut: 504, NetworkError: 503}


@app.exception_handler(ComfyError)
async def comfy_trouble(_request: Request, error: ComfyError) -> JSONResponse:
    """What the library raises."""
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 502)
    return JSONResponse(told(error), status)


@app.exception_handler(RequestValidationError)
async def refused(_request: Request, error: RequestValidationError) -> JSONResponse:
    """What does not fit, field by field, and nothing of what was sent."""
    found = [
        f"{'.'.join(map(str, one['loc'][1:])) or 'The request'}: {one['msg']}." for one in error.errors()
    ]
    return JSONResponse({"error": " ".join(found[:5]), "hint": ""}, 422)


@app.exception_handler(AnyHTTPException)
async def http_trouble(_request: Request, error: AnyHTTPException) -> JSONResponse:
    """Everything else, in the same form."""
    return JSONResponse({"error": error.detail, "hint": ""}, error.status_code, error.headers)


app.mount("/", StaticFiles(directory=HERE / "page", html=True))
