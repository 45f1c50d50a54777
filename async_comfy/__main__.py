"""``python -m async_comfy``: the same as ``async-comfy``."""

from async_comfy.cli import main

main()
