"""What may go to a terminal. Texts of servers and files could steer it otherwise."""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` without control characters, lines and tabs kept."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def short(text: str, most: int = 60) -> str:
    """`text`, or its beginning: prompts are long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
