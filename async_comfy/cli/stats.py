"""`async-comfy stats`: what a server is, has, and has to do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

GIB = 2**30

EPILOG = """\b
Examples:
  async-comfy stats
  async-comfy stats --json

With --json one object: the server's own "system" and "devices", and "queue_remaining".
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def stats(server: Server, as_json: bool) -> None:
    """Show a server's version, memory and devices."""
    from async_comfy.cli.interrupt import drive

    told = drive(_ask(server))
    for line in [json.dumps(told)] if as_json else _lines(told):
        click.echo(clean(line))


async def _ask(server: Server) -> dict[str, Any]:
    async with server.session() as session:
        return {**await session.system.stats(), "queue_remaining": await session.queue.remaining()}


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    system = told.get("system")
    system = system if isinstance(system, dict) else {}
    yield f"ComfyUI  {system.get('comfyui_version', 'of unknown version')}, {system.get('os', '?')}"
    yield f"Python   {str(system.get('python_version', '?')).split(' (')[0]}"
    yield f"PyTorch  {system.get('pytorch_version', '?')}"
    yield f"RAM      {_memory(system, 'ram')}"
    devices = told.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict):
            yield f"VRAM     {_memory(device, 'vram')}  {device.get('name', '?')}"
    yield f"Queue    {told['queue_remaining']} to do"


def _memory(of: Mapping[str, Any], kind: str) -> str:
    free, total = of.get(f"{kind}_free"), of.get(f"{kind}_total")
    if not isinstance(free, int | float) or not isinstance(total, int | float):
        return "?"
    return f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
