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
    from async_comfy._live.discovery import behind, from_call, in_file
    from async_comfy._live.fleet import Fleet, Server
    from async_comfy._live.handle import Job
    from async_comfy._live.pool import Pool
    from async_comfy._live.pool_job import PoolJob
    from async_comfy._live.pool_stats import ServerStats, Stats
    from async_comfy._live.session import Session, Statistics
    from async_comfy._live.upload import Uploaded
    from async_comfy.protocol.lanes import Lane
    from async_comfy.protocol.ledger import Figures, Percentiles

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
    "Figures",
    "File",
    "Fleet",
    "Gap",
    "Job",
    "JobProgress",
    "Lane",
    "Lost",
    "NetworkError",
    "Node",
    "NodeProblem",
    "NotComfyUI",
    "NotFound",
    "OutOfMemory",
    "OutputFile",
    "Percentiles",
    "Pool",
    "PoolJob",
    "Preview",
    "Progress",
    "ProgressState",
    "ProgressText",
    "Rejected",
    "Result",
    "Server",
    "ServerError",
    "ServerStats",
    "Session",
    "Statistics",
    "Stats",
    "Status",
    "TimedOut",
    "UnexpectedAnswer",
    "Unknown",
    "Unreachable",
    "Uploaded",
    "Workflow",
    "WorkflowError",
    "behind",
    "from_call",
    "in_file",
]

_HOMES = {
    "Figures": "protocol.ledger",
    "Fleet": "_live.fleet",
    "Job": "_live.handle",
    "Lane": "protocol.lanes",
    "Percentiles": "protocol.ledger",
    "Pool": "_live.pool",
    "PoolJob": "_live.pool_job",
    "Server": "_live.fleet",
    "ServerStats": "_live.pool_stats",
    "Session": "_live.session",
    "Statistics": "_live.session",
    "Stats": "_live.pool_stats",
    "Uploaded": "_live.upload",
    "behind": "_live.discovery",
    "from_call": "_live.discovery",
    "in_file": "_live.discovery",
}


def __getattr__(name: str) -> Any:
    """What awaits is imported when it is first named: aiohttp alone takes a quarter of a second."""
    if name in _HOMES:
        return getattr(import_module(f"async_comfy.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
