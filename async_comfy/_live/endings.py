"""How an attempt ended, read from what was raised and what was seen; and what to tell its caller."""

import re

from async_comfy._live.handle import Job
from async_comfy._live.member import Member
from async_comfy._live.pool_job import PoolJob
from async_comfy.errors import (
    Ambiguous,
    Cancelled,
    Closed,
    ComfyError,
    Denied,
    Failed,
    Lost,
    NetworkError,
    OutOfMemory,
    Rejected,
    ServerError,
)
from async_comfy.protocol.failover import Ending, is_poison
from async_comfy.protocol.footprint import MODEL_SUFFIXES
from async_comfy.protocol.job import State

_NODE_ID = re.compile(r"#([^'\s]+)")


def ending(error: ComfyError, job: PoolJob, *, accepted: bool) -> Ending:
    """What this error says of the attempt. `accepted`: the server had the prompt."""
    match error:
        case OutOfMemory():
            return Ending.OUT_OF_MEMORY
        case Failed():
            return Ending.FAILED
        case Rejected():
            return Ending.LACKING if lacking(error, job) else Ending.REJECTED
        case Cancelled():
            return Ending.CANCELLED
        case Lost():
            return Ending.LOST
        case Ambiguous():
            return Ending.AMBIGUOUS
        case _ if accepted:
            return Ending.AMBIGUOUS
        case ServerError() | NetworkError() | Denied() | Closed():
            return Ending.UNREACHED
        case _:
            return Ending.REJECTED


def lacking(error: Rejected, job: PoolJob) -> frozenset[str]:
    """Node classes and model files that the server refused for not having them."""
    files = [p.given for p in error.problems if p.kind == "value_not_in_list" and isinstance(p.given, str)]
    found = {name for name in files if name.endswith(MODEL_SUFFIXES)}
    if error.kind == "missing_node_type":
        shape = job.workflow.shape
        found |= {shape[node].class_type for node in _NODE_ID.findall(error.details) if node in shape}
    return frozenset(found)


def may_have_begun(job: PoolJob, member: Member | None) -> bool:
    """Whether a job that its server lost may have run: a sign of it was seen, or one may have been missed."""
    inner = job.inner
    if inner is None:
        return bool(job.sent_id)  # the POST was on its way, and nobody heard the answer
    if inner.life.run is not None:
        return True
    quick = member is not None and member.quick and inner.life.state is not State.CANCELLED  # not by a death
    return inner.life.gap and not quick


def lost(job: PoolJob, server: str, seen: str) -> Lost:
    """The outcome of a job whose server is gone, with what was seen of that."""
    return Lost(
        f"The server {server} lost the job {job.prompt_id or job.id}.",
        evidence=[seen],
        hint="It may have begun, so it is not sent again; `retry`: if_lost allows that.",
        prompt_id=job.prompt_id,
    )


def never_began(job: PoolJob, server: str) -> Lost:
    """The outcome of a job that waited for a server which was taken out."""
    return Lost(
        f"The job {job.id} waited for {server}, which was taken out of the pool.",
        evidence=["it had not begun"],
        hint="Submit it again, for another server.",
        prompt_id=job.prompt_id,
    )


def unstopped(job: PoolJob, server: str, seconds: float) -> Ambiguous:
    """The outcome of a job that was given up at its server, and may go on there."""
    said = "did not stop" if job.inner is not None else "its POST was not answered"
    return Ambiguous(
        f"The job {job.id} was given up on {server} and may go on there.",
        evidence=[f"{said} for {seconds:g} s after it was asked to"] if job.inner is not None else [said],
        hint="Look at that server before sending it again.",
        prompt_id=job.prompt_id,
    )


def last_word(job: PoolJob, error: ComfyError) -> ComfyError:
    """The error to raise in the end: the last one, or that the job is taken for a killer of servers."""
    if not is_poison(job.attempts):
        return error
    servers = ", ".join(one.server for one in job.attempts)
    return Lost(
        f"The job {job.id} was running when its servers died: {servers}.",
        evidence=[f"{one.server}: {one.ending}" for one in job.attempts],
        hint="It is taken for the cause and is not sent to a third one.",
        prompt_id=job.prompt_id,
    )


def silent_s(inner: Job, turn_at: float, now: float) -> float:
    """Seconds since the last sign of a job; of one that has not begun, since its turn came."""
    run = inner.life.run
    if run is None:
        return now - turn_at
    return now - max(run.since, run.node_since, run.said_at, run.step_at)
