"""The end-to-end benchmark: every contestant does the work that it is measured by."""

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks import crowd, traffic
from benchmarks.contestants import ALL, Contestant, Ours
from benchmarks.fleet import Fleet, Pace
from benchmarks.machine import alone
from benchmarks.prompts import HOW, How, Size, drive, turn
from benchmarks.receive import RECEIVERS, Receiver, receive

pytestmark = pytest.mark.anyio

SERVERS, PROMPTS = 2, 6


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(SERVERS) as fleet:
        yield fleet


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ALL)
async def test_every_contestant_runs_every_prompt_with_one_request(
    fleet: Fleet, kind: type[Contestant], how: How
) -> None:
    row = await turn(fleet, Size(SERVERS, PROMPTS, 4, 1000), how, kind)

    assert row["requests"] == 1
    assert row["sockets"] == SERVERS


@pytest.mark.parametrize("pace", ["single", "recorded", "burst"])
async def test_ours_hears_all_of_a_prompts_own_messages_at_every_pace(fleet: Fleet, pace: Pace) -> None:
    """61 less the three that tell of the queue and name no prompt."""
    fleet.reset(beat_us=1000, pace=pace)
    async with Ours(fleet.urls) as ours:
        run = await drive(ours, "stream", PROMPTS, PROMPTS)

    assert run.events == PROMPTS * (traffic.EVENTS - 3)
    assert len(run.back_ns) == PROMPTS


@pytest.mark.parametrize("kind", RECEIVERS)
async def test_every_receiver_gets_every_message_of_a_flood(fleet: Fleet, kind: type[Receiver]) -> None:
    async with asyncio.timeout(20):
        row = await receive(fleet, kind, "progress", times=3, together=5, beat_us=1000)

    assert row["cpu_us"] > 0


def test_the_state_of_a_waiting_prompt_is_weighed() -> None:
    weighed = alone(crowd.state, "submit", 50)

    assert 0 < weighed["own_bytes"] <= weighed["bytes"]
    assert weighed["lines"]
