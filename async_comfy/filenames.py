"""Names that are safe to write to, whatever a server or a template made of them."""

import re
from pathlib import PurePosixPath

LONGEST_BYTES = 200  # file systems take 255; room for " (12)", ".part" and a suffix

_UNFIT = re.compile(r'[/\\\x00-\x1f\x7f<>:"|?*]')
_ENDS = re.compile(r"^\s+|[\s.]+$")
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def safe_path(name: str) -> PurePosixPath:
    """A relative path out of `name` that stays below wherever it is put.

    Slashes of both kinds separate folders; "..", drive letters and roots are dropped; what some system
    forbids in a name becomes "_". Never empty.
    """
    parts = [part for part in map(_fit, re.split(r"[/\\]", name)) if part]
    return PurePosixPath(*parts) if parts else PurePosixPath("unnamed")


def safe_name(part: str) -> str:
    """One component of a path, fit for every system. Never empty."""
    return _fit(part) or "unnamed"


def numbered(path: PurePosixPath, number: int) -> PurePosixPath:
    """``name.png`` as ``name (number).png``."""
    return path.with_name(f"{path.stem} ({number}){path.suffix}")


def _fit(part: str) -> str:
    clean = _ENDS.sub("", _UNFIT.sub("_", part.encode("utf-8", "replace").decode()))
    if _RESERVED.fullmatch(clean):
        clean = f"_{clean}"
    return _ENDS.sub("", _shorten(clean))


def _shorten(name: str) -> str:
    if len(name.encode()) <= LONGEST_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    keep = f".{suffix}" if dot and len(suffix.encode()) <= 16 else ""
    room = LONGEST_BYTES - len(keep.encode())
    return (stem if keep else name).encode()[:room].decode(errors="ignore") + keep
