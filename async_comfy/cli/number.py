"""Numbers in options."""

import math
from typing import Any

import click

LARGEST_SEED = 2**64 - 1  # the samplers of ComfyUI take no larger ones


def finite(context: click.Context, option: click.Parameter, given: float | None) -> float | None:
    """The number. Raises: click.BadParameter for nan, which no range keeps out, and for infinity."""
    if given is not None and not math.isfinite(given):
        raise click.BadParameter(f"{given} is no number to count with.")
    return given


def check_seed(
    text: str, kind: click.ParamType[Any], option: click.Parameter | None, context: click.Context | None
) -> None:
    """Raises: click.BadParameter for digits that are more than any seed: cut, they would be another one."""
    digits = text.lstrip("0")
    if digits.isdecimal() and (len(digits) > len(str(LARGEST_SEED)) or int(digits) > LARGEST_SEED):
        kind.fail(f"the largest seed is {LARGEST_SEED}.", option, context)
