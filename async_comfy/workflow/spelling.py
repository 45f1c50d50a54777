"""Which known name was probably meant."""

import difflib
import itertools
from collections.abc import Iterable

LONGEST = 200  # characters; comparing takes time with the square of the length, and a name is short
MOST_NAMES = 5000  # a second's worth; a folder or a server may hold far more


def nearest(word: object, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """Up to `most` of the known names that are like `word`, the likest first. `likeness`: 0..1."""
    text = str(word)
    if len(text) > LONGEST:
        return []
    return difflib.get_close_matches(text, itertools.islice(known, MOST_NAMES), most, likeness)
