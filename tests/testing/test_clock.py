"""The virtual clock: time passes at once, for asyncio and for time.monotonic alike."""

import asyncio
import time

import pytest

from async_comfy.testing import run_virtually


def test_ten_minutes_pass_at_once_and_in_order() -> None:
    """Sleepers wake in the order of their times, by the clock that the code itself reads."""

    async def sleepers() -> list[tuple[float, float]]:
        begun, woken = time.monotonic(), []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((seconds, round(time.monotonic() - begun, 3)))

        await asyncio.gather(sleep(600.0), sleep(0.5), sleep(60.0))
        return woken

    assert run_virtually(sleepers()) == [(0.5, 0.5), (60.0, 60.0), (600.0, 600.0)]


def test_the_real_clock_is_back_afterwards() -> None:
    """Also when what ran has failed."""
    real = time.monotonic

    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run_virtually(fail())
    assert time.monotonic is real


def test_waiting_for_nothing_is_said_and_does_not_hang() -> None:
    """A dead end is an error."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing will ever happen"):
        run_virtually(wait())
