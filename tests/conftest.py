"""On which event loop the tests run, and how hard Hypothesis tries."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

LOOPS: dict[str, dict[str, Any]] = {"plain": {}, "debug": {"debug": True}, "uvloop": {"use_uvloop": True}}

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile("fast", max_examples=60, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "soak", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("ASYNC_COMFY_TEST_EFFORT", "fast"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio; ASYNC_COMFY_TEST_LOOP=debug|uvloop chooses how."""
    return "asyncio", LOOPS[os.environ.get("ASYNC_COMFY_TEST_LOOP", "plain")]
