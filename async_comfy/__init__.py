"""Drive ComfyUI from asyncio: one WebSocket per session, typed events, honest outcomes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from async_comfy.errors import (
    OUTCOMES,
    Ambiguous,
    CallerError,
    Cancelled,
    Closed,
    ComfyError,
    Denied,
    Failed,
    Lost,
    NetworkError,
    NodeProblem,
    NotComfyUI,
    NotFound,
    OutOfMemory,
    Rejected,
    ServerError,
    TimedOut,
    UnexpectedAnswer,
    Unreachable,
    WorkflowError,
)
from async_comfy.events import (
    EVENTS,
    Event,
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    FeatureFlags,
    Gap,
    Preview,
    Progress,
    ProgressState,
    ProgressText,
    Status,
    Unknown,
)
from async_comfy.results import JobProgress, OutputFile, Result
from async_comfy.workflow import File, Node, Workflow

if TYPE_CHECKING:
    from async_comfy._live.handle import Job
    from async_comfy._live.session import Session, Statistics
    from async_comfy._live.upload import Uploaded

__version__ = "0.1.0"

__all__ = [
    "EVENTS",
    "OUTCOMES",
    "Ambiguous",
    "CallerError",
    "Cancelled",
    "Closed",
    "ComfyError",
    "Denied",
    "Event",
    "Executed",
    "Executing",
    "ExecutionCached",
    "ExecutionError",
    "ExecutionInterrupted",
    "ExecutionStart",
    "ExecutionSuccess",
    "Failed",
    "FeatureFlags",
    "File",
    "Gap",
    "Job",
    "JobProgress",
    "Lost",
    "NetworkError",
    "Node",
    "NodeProblem",
    "NotComfyUI",
    "NotFound",
    "OutOfMemory",
    "OutputFile",
    "Preview",
    "Progress",
    "ProgressState",
    "ProgressText",
    "Rejected",
    "Result",
    "ServerError",
    "Session",
    "Statistics",
    "Status",
    "TimedOut",
    "UnexpectedAnswer",
    "Unknown",
    "Unreachable",
    "Uploaded",
    "Workflow",
    "WorkflowError",
]

_LIVE = {"Job": "handle", "Session": "session", "Statistics": "session", "Uploaded": "upload"}


def __getattr__(name: str) -> Any:
    """What awaits is imported when it is first named: aiohttp alone takes a quarter of a second."""
    if name in _LIVE:
        return getattr(import_module(f"async_comfy._live.{_LIVE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
