"""Questions to whoever sits there."""

import sys

import click

from async_comfy import CallerError
from async_comfy.cli.terminal import clean


def agreed(question: str, without: str) -> bool:
    """Whether they say yes; Enter is no. `without`: what option does it unasked, such as "--yes forgets".

    Raises: CallerError where nobody is there.
    """
    if not sys.stdin.isatty():
        raise CallerError("Nobody is here to be asked.", hint=f"{without} without asking.")
    try:
        return click.confirm(clean(question), err=True)
    except click.Abort:  # Ctrl-C or Ctrl-D: no answer is no
        click.echo(err=True)
        return False
