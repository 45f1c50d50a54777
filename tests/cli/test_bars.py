"""The live bars, drawn into a terminal of text."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from async_comfy import JobProgress, Session
from async_comfy.cli.bars import Bars, clock, doing
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (JobProgress("queued", ahead=2), "waiting, 2 ahead"),
        (JobProgress("queued", ahead=0), "next"),
        (JobProgress("queued"), "waiting"),
        (JobProgress("running", title="Load Checkpoint"), "Load Checkpoint"),
        (
            JobProgress("running", title="KSampler", step=3, steps=20, steps_per_s=2.5, eta_s=6.8),
            "KSampler 3/20, 2.5 steps/s, 0:07 left",
        ),
        (JobProgress("running", title="\x1b[2J"), "\N{REPLACEMENT CHARACTER}[2J"),
        (JobProgress("completed", fraction=1.0), "saving"),
    ],
)
def test_a_job_is_told_in_words(progress: JobProgress, words: str) -> None:
    """Place in the queue, or node, steps, pace and time left; what steers a terminal is taken out."""
    assert doing(progress) == words


def test_a_lost_connection_is_told() -> None:
    """Numbers would be stale then."""
    assert doing(JobProgress("running", title="KSampler"), connected=False) == "connection lost, trying again"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")]
)
def test_seconds_as_people_read_them(seconds: float, shown: str) -> None:
    """Minutes, and hours where there are any."""
    assert clock(seconds) == shown


async def test_the_picture_shows_the_whole_and_each_job() -> None:
    """The running job before those that wait, with its node and steps; done ones leave."""
    bars = Bars()
    bars.console = Console(file=io.StringIO(), width=100, height=30)
    bars.live.console = bars.console
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("step")
        jobs = [await session.submit(diffusion(seed)) for seed in (1, 2)]
        bars.begin("fox", total=8, done=4)
        for index, job in enumerate(jobs, start=5):
            bars.submitted(index, job, session)
        await server.until_at("step")
        before = shown(bars)
        server.release()
        results = [await job for job in jobs]
        bars.saved(5, results[0], [Path("a.png")])
        after = shown(bars)

    assert [row.split()[0] for row in before] == ["fox", "0005", "0006"]
    assert "4 of 8 done" in before[0]
    assert "KSampler" in before[1]
    assert "next" in before[2] or "1 ahead" in before[2]
    assert [row.split()[0] for row in after] == ["fox", "0006"]
    assert "5 of 8 done" in after[0]


def shown(bars: Bars) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=100, height=30).print(bars.picture())
    return file.getvalue().rstrip().splitlines()
