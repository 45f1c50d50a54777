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

if TYPE_CHECKING:
    from async_comfy._live.api.assets import (
        Asset,
        AssetPage,
        AssetScan,
        AssetScanProgress,
        TagChange,
        TagPage,
        TagUsage,
    )
    from async_comfy._live.api.logs import LogEntry
    from async_comfy._live.api.models import ModelFile, ModelFolder
    from async_comfy._live.api.prompts import JobPage
    from async_comfy._live.api.templates import EditorTemplate, Subgraph
    from async_comfy._live.api.userdata import UserEntry, UserFile
    from async_comfy._live.collector import tune_gc
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
    from async_comfy.protocol.recovery import HistoryEntry, HistoryStatus, Queued
    from async_comfy.workflow import File, Node, Workflow
    from async_comfy.workflow.object_info import Declarations
    from async_comfy.workflow.object_info_cache import DeclarationCache

__version__ = "0.1.0"

__all__ = [
    "EVENTS",
    "OUTCOMES",
    "Ambiguous",
    "Asset",
    "AssetPage",
    "AssetScan",
    "AssetScanProgress",
    "CallerError",
    "Cancelled",
    "Closed",
    "ComfyError",
    "DeclarationCache",
    "Declarations",
    "Denied",
    "EditorTemplate",
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
    "HistoryEntry",
    "HistoryStatus",
    "Job",
    "JobPage",
    "JobProgress",
    "Lane",
    "LogEntry",
    "Lost",
    "ModelFile",
    "ModelFolder",
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
    "Queued",
    "Rejected",
    "Result",
    "Server",
    "ServerError",
    "ServerStats",
    "Session",
    "Statistics",
    "Stats",
    "Status",
    "Subgraph",
    "TagChange",
    "TagPage",
    "TagUsage",
    "TimedOut",
    "UnexpectedAnswer",
    "Unknown",
    "Unreachable",
    "Uploaded",
    "UserEntry",
    "UserFile",
    "Workflow",
    "WorkflowError",
    "behind",
    "from_call",
    "in_file",
    "tune_gc",
]

_HOMES = {
    "Asset": "_live.api.assets",
    "AssetPage": "_live.api.assets",
    "AssetScan": "_live.api.assets",
    "AssetScanProgress": "_live.api.assets",
    "DeclarationCache": "workflow.object_info_cache",
    "Declarations": "workflow.object_info",
    "EditorTemplate": "_live.api.templates",
    "Figures": "protocol.ledger",
    "File": "workflow",
    "Fleet": "_live.fleet",
    "HistoryEntry": "protocol.recovery",
    "HistoryStatus": "protocol.recovery",
    "Job": "_live.handle",
    "JobPage": "_live.api.prompts",
    "Lane": "protocol.lanes",
    "LogEntry": "_live.api.logs",
    "ModelFile": "_live.api.models",
    "ModelFolder": "_live.api.models",
    "Node": "workflow",
    "Percentiles": "protocol.ledger",
    "Pool": "_live.pool",
    "PoolJob": "_live.pool_job",
    "Queued": "protocol.recovery",
    "Server": "_live.fleet",
    "ServerStats": "_live.pool_stats",
    "Session": "_live.session",
    "Statistics": "_live.session",
    "Stats": "_live.pool_stats",
    "Subgraph": "_live.api.templates",
    "TagChange": "_live.api.assets",
    "TagPage": "_live.api.assets",
    "TagUsage": "_live.api.assets",
    "Uploaded": "_live.upload",
    "UserEntry": "_live.api.userdata",
    "UserFile": "_live.api.userdata",
    "Workflow": "workflow",
    "behind": "_live.discovery",
    "from_call": "_live.discovery",
    "in_file": "_live.discovery",
    "tune_gc": "_live.collector",
}


def __getattr__(name: str) -> Any:
    """What awaits is imported when it is first named: aiohttp alone takes a quarter of a second."""
    if name in _HOMES:
        return getattr(import_module(f"async_comfy.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
