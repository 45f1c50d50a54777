"""`async-comfy completion`: makes the shell complete commands and options."""

import click

VARIABLE = "_ASYNC_COMFY_COMPLETE"  # what click looks at in a command of this name

EPILOG = """\b
Examples:
  async-comfy completion bash >> ~/.bashrc
  async-comfy completion zsh >> ~/.zshrc
  async-comfy completion fish > ~/.config/fish/completions/async-comfy.fish
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print what a SHELL needs to complete commands and options.

    It takes effect in the next shell that starts.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete for {shell}.")
    group = context.find_root().command
    click.echo(kind(group, {}, "async-comfy", VARIABLE).source())
