"""A group of commands that lists when it is given none of them."""

import click


class Listing(click.Group):
    """`async-comfy templates` is `async-comfy templates list`, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts in the `list` that was left out."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
