"""The server's routes as calls, grouped as the server groups them. Each says what it asks for."""

from async_comfy._live.api.assets import Assets
from async_comfy._live.api.files import Files
from async_comfy._live.api.logs import Logs
from async_comfy._live.api.models import Models
from async_comfy._live.api.nodes import Nodes
from async_comfy._live.api.prompts import History, Jobs, Queue
from async_comfy._live.api.system import System
from async_comfy._live.api.templates import Subgraphs, Templates
from async_comfy._live.api.userdata import Settings, UserData, Users

__all__ = [
    "Assets",
    "Files",
    "History",
    "Jobs",
    "Logs",
    "Models",
    "Nodes",
    "Queue",
    "Settings",
    "Subgraphs",
    "System",
    "Templates",
    "UserData",
    "Users",
]
