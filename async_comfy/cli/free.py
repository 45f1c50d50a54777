"""`async-comfy free`: gives the server's memory back."""

import json

import click

from async_comfy.cli.server import Server, server_options

EPILOG = """\b
Examples:
  async-comfy free
  async-comfy free --keep-results
"""


@click.command(epilog=EPILOG)
@click.option(
    "--keep-results", is_flag=True, help="Unload the models, and keep what nodes made for later runs."
)
@click.option("--json", "as_json", is_flag=True, help="One object: what was asked for.")
@server_options
def free(server: Server, keep_results: bool, as_json: bool) -> None:
    """Free the server's memory.

    Models are unloaded and results forgotten as soon as the job that runs is through; none is stopped.
    """
    from async_comfy.cli.interrupt import drive

    asked = {"unload_models": True, "free_memory": not keep_results}
    drive(_free(server, asked))
    if as_json:
        click.echo(json.dumps(asked))
    else:
        click.echo("Asked: memory is freed as soon as no job runs.", err=True)


async def _free(server: Server, asked: dict[str, bool]) -> None:
    async with server.session() as session:
        await session.system.free(**asked)
