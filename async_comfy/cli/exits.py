"""How a command ends: its exit code, and what stderr says of an error."""

from async_comfy import (
    Ambiguous,
    CallerError,
    Cancelled,
    ComfyError,
    Denied,
    Failed,
    Lost,
    NotComfyUI,
    Rejected,
    TimedOut,
    Unreachable,
)
from async_comfy.cli.terminal import clean

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
TERMINATED = 143  # 128 + SIGTERM

MEANINGS = {
    DONE: "done",
    FAILED: "a job failed, was lost, timed out or was cancelled by somebody else",
    USAGE: "wrong usage: an option, the workflow or the output folder",
    UNREACHABLE: "the server cannot be reached, or it is no ComfyUI",
    REFUSED: "the server refused: the workflow is not valid there, or access is denied",
    INTERRUPTED: "interrupted with Ctrl-C",
    TERMINATED: "told to end with SIGTERM, which is as good as Ctrl-C",
}

JOB_ENDS = (Failed, Cancelled, Lost, Ambiguous, TimedOut)
"""What befalls one job; the next one may go well."""

_CODES: tuple[tuple[type[ComfyError] | tuple[type[ComfyError], ...], int], ...] = (
    (JOB_ENDS, FAILED),
    ((Rejected, Denied), REFUSED),
    ((Unreachable, NotComfyUI), UNREACHABLE),
    (CallerError, USAGE),
)

CREDENTIALS = (
    "Give --api-key, --bearer or --header, or set ASYNC_COMFY_API_KEY or ASYNC_COMFY_BEARER; "
    "for a user and a password write --server http://user:password@host."
)


def code(error: ComfyError) -> int:
    """The exit code for an error; the first line of the table that fits."""
    return next((number for kinds, number in _CODES if isinstance(error, kinds)), FAILED)


def complaint(error: ComfyError) -> str:
    """What stderr says: the reason in one line, what was found, what to do."""
    lines = [f"error: {error.message}", *(f"  {line}" for line in _findings(error)), hint(error)]
    return clean("\n".join(line for line in lines if line))


def hint(error: ComfyError) -> str:
    """What to do, in the words of the command line."""
    return CREDENTIALS if isinstance(error, Denied) else error.hint


def _findings(error: ComfyError) -> list[str]:
    if isinstance(error, Rejected):
        return [str(problem) for problem in error.problems]
    if isinstance(error, Lost | Ambiguous):
        return [f"seen: {item}" for item in error.evidence]
    return []
