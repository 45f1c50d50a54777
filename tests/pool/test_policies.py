"""What the policy is worth, in virtual time: deterministic, and beside round robin and least queue."""

import random
from collections import Counter

import pytest

from tests.pool.scenarios import all_down, chaos, mixed_classes, mixed_models
from tests.pool.virtual import Fleet, LeastQueue, Pooled, RoundRobin, plan_loads


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [None, 8.0])
def test_mixed_models_beat_the_blind_policies(seed: int, rate: float | None) -> None:
    """Eight checkpoints, twenty servers: twice as good as round robin, 1.5 times as least queue."""
    prompts = mixed_models(seed, rate=rate)
    ours = Fleet(Pooled(), 20).run(prompts)
    robin = Fleet(RoundRobin(), 20).run(mixed_models(seed, rate=rate))
    least = Fleet(LeastQueue(), 20).run(mixed_models(seed, rate=rate))

    assert ours.makespan_s * 2 <= robin.makespan_s
    assert ours.sojourn_s(0.99) * 2 <= robin.sojourn_s(0.99)
    assert ours.makespan_s * 1.5 <= least.makespan_s
    assert ours.sojourn_s(0.99) * 1.5 <= least.sojourn_s(0.99)
    assert ours.loads <= 1.5 * plan_loads(prompts, 20, 10.0)[0]


@pytest.mark.parametrize("seed", range(3))
def test_images_do_not_wait_for_videos(seed: int) -> None:
    """At 80 % load p99 of the wait of images is at most twice their run; videos keep 90 % of their pace."""
    report, alone = mixed_classes(seed)
    assert report.wait_s(0.99, "image") <= 4.0
    assert report.throughput("video") >= 0.9 * alone.throughput("video")


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_in_turmoil_completes_everything(seed: int) -> None:
    """Servers die, come back, join at random: every job ends, at 90 % of what the living could give."""
    report, goodput = chaos(seed)
    assert all(prompt.ended_at is not None for prompt in report.of())
    assert goodput >= 0.9


def test_after_ten_minutes_of_darkness_there_is_no_storm() -> None:
    """All down for ten minutes, then back: everything resumes, two prompts per server a second at most."""
    report, servers = all_down(1)
    assert all(prompt.ended_at is not None for prompt in report.of())
    assert max(report.fleet.posts.values()) <= 2 * servers
    assert not any(report.fleet.posts[second] for second in range(110, 690))


def test_a_run_is_a_function_of_its_seed() -> None:
    """The same seed gives the same placements, another one others."""

    def placements(seed: int) -> list[tuple[str, tuple[str, ...]]]:
        pooled = Pooled()
        Fleet(pooled, 5).run(mixed_models(seed, 300))
        return [(one.host, one.ticket.footprint.models) for one in pooled.placements]

    assert placements(1) == placements(1)
    assert placements(1) != placements(2)


def test_zipf_is_what_is_asked_for() -> None:
    """The workload really is skewed: the first checkpoint is used about twice as often as the second."""
    counts = Counter(prompt.models for prompt in mixed_models(1, 20_000))
    assert 1.8 < counts[("model_0",)] / counts[("model_1",)] < 2.2
    assert random.Random(1).random() != random.Random(2).random()
