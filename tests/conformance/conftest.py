"""The same tests against the simulated server, and against a real one where ASYNC_COMFY_URL names it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from async_comfy import Session
from async_comfy.testing import SimulatedServer

PROFILES = ["0.3.40", "0.33", "next"]
REAL = os.environ.get("ASYNC_COMFY_URL")


@pytest.fixture(params=[*PROFILES, "real"] if REAL else PROFILES)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the server to conform to."""
    if request.param == "real":
        assert REAL is not None
        yield REAL
        return
    with SimulatedServer(profile=request.param).in_thread() as server:
        yield server.url


@pytest.fixture
async def session(url: str, anyio_backend: object) -> AsyncIterator[Session]:
    async with Session(url) as session:
        yield session


@pytest.fixture
def fresh() -> int:
    """A number that no earlier run used, so that nothing comes from a cache."""
    return uuid.uuid4().int % 2**24
