"""Health and failover as tables: who is given work, and what follows an attempt."""

import pytest

from async_comfy.protocol.costs import Costs
from async_comfy.protocol.failover import Attempt, Ending, Retry, after, is_poison, without_a_bigger_card
from async_comfy.protocol.footprint import Footprint, footprint
from async_comfy.protocol.health import EJECTED_S, FAILURES, LONGEST_S, REST_S, Condition, Health
from async_comfy.protocol.host import Host
from async_comfy.protocol.ledger import Histogram, Ledger, Metric
from async_comfy.protocol.scheduler import Scheduler
from async_comfy.workflow import Workflow
from tests.live.pictures import diffusion

UNBEGUN = Attempt("a", Ending.LOST)
BEGUN = Attempt("a", Ending.LOST, begun=True)
FAILED = Attempt("a", Ending.FAILED, begun=True)
VAGUE = Attempt("a", Ending.AMBIGUOUS, begun=True)
STALLED = Attempt("a", Ending.STALLED, begun=True)


@pytest.mark.parametrize(
    ("attempts", "retry", "again"),
    [
        ([UNBEGUN], "never", True),
        ([BEGUN], "never", False),
        ([BEGUN], "if_lost", True),
        ([BEGUN], 1, True),
        ([BEGUN, BEGUN], 1, False),
        ([BEGUN, Attempt("b", Ending.LOST, begun=True)], "if_lost", False),
        ([BEGUN, Attempt("b", Ending.LOST, begun=True)], 9, False),
        ([FAILED], "never", False),
        ([FAILED], "if_lost", False),
        ([FAILED], 1, True),
        ([FAILED, FAILED], 1, False),
        ([VAGUE], "never", False),
        ([VAGUE], "if_lost", False),
        ([VAGUE], 2, True),
        ([STALLED], "never", False),
        ([STALLED], "if_lost", True),
        ([Attempt("a", Ending.REJECTED)], 5, False),
        ([Attempt("a", Ending.CANCELLED, begun=True)], 5, False),
        ([Attempt("a", Ending.LACKING)], "never", True),
        ([Attempt("a", Ending.UNREACHED)], "never", True),
        ([Attempt("a", Ending.UNREACHED)] * 20, "never", True),
        ([Attempt("a", Ending.UNREACHED)] * 21, "if_lost", False),
        ([UNBEGUN] * 5, "never", True),
        ([UNBEGUN] * 6, "never", False),
    ],
)
def test_what_follows_an_attempt(attempts: list[Attempt], retry: Retry, again: bool) -> None:
    """Unbegun: always; begun: as the caller said; ambiguous: by number alone; two dead servers: never."""
    assert (after(attempts, retry) is not None) is again


def test_a_retry_goes_elsewhere() -> None:
    """What failed or was lost at a server is not sent there again."""
    for attempt in (BEGUN, FAILED):
        follows = after([attempt], 3)
        assert follows is not None
        assert follows.without == {"a"}
    lacking = after([Attempt(name, Ending.LACKING) for name in "ab"], "never")
    assert lacking is not None
    assert lacking.without == {"a", "b"}


def test_memory_frees_first_and_then_wants_more() -> None:
    """Out of memory: the same server freed, then more VRAM, and nothing where none is known."""
    first = Attempt("a", Ending.OUT_OF_MEMORY, begun=True, vram_bytes=8)
    once = after([first], "never")
    assert once is not None
    assert (once.server, once.free) == ("a", True)
    twice = after([first, first], "never")
    assert twice is not None
    assert (twice.server, twice.above_bytes) == (None, 8)
    assert without_a_bigger_card([first, first], "never") is None
    assert without_a_bigger_card([first, first], 1) is None
    elsewhere = without_a_bigger_card([first, first], 2)
    assert elsewhere is not None
    assert elsewhere.without == {"a"}
    assert not elsewhere.above_bytes
    blind = Attempt("a", Ending.OUT_OF_MEMORY, begun=True)
    assert after([blind, blind], "never") is None


def test_poison_needs_two_different_servers() -> None:
    """One server that dies twice is that server's trouble."""
    assert not is_poison([BEGUN, BEGUN])
    assert not is_poison([BEGUN, Attempt("b", Ending.LOST)])
    assert is_poison([BEGUN, Attempt("b", Ending.LOST, begun=True)])


def test_ejection_grows_and_one_failure_suffices_after_it() -> None:
    """Three failures in a row eject; the time grows; a server that came back is out at its first failure."""
    health = Health()
    health.joined()
    health.worked()
    ejected = [health.failed(0.0, may_eject=True) for _ in range(FAILURES)]
    assert ejected == [False, False, True]
    assert health.condition(EJECTED_S - 1) is Condition.EJECTED
    assert health.condition(EJECTED_S + 1) is Condition.PROBING
    assert health.failed(EJECTED_S + 1, may_eject=True)
    assert health.condition(2 * EJECTED_S) is Condition.EJECTED
    assert health.takes(EJECTED_S + 1 + 2 * EJECTED_S)


def test_ejections_grow_to_a_bound_and_shrink_with_health() -> None:
    """So much more each time, five minutes at most; each prompt that goes well takes one back."""
    health, now, lengths = Health(), 0.0, []
    health.joined()
    for _ in range(30):
        while not health.failed(now, may_eject=True):
            now += 1.0
        lengths.append(health.ejected_until - now)
        now = health.ejected_until
    assert lengths[:3] == [EJECTED_S, 2 * EJECTED_S, 3 * EJECTED_S]
    assert max(lengths) == lengths[-1] == LONGEST_S
    for _ in range(29):
        health.worked()
    assert [health.failed(now, may_eject=True) for _ in range(FAILURES)] == [False, False, True]
    assert health.ejected_until - now == 2 * EJECTED_S


def test_failures_count_in_a_row_and_rests_double() -> None:
    """A prompt that goes well begins the count anew and ends the rest; the rests are bounded."""
    health = Health()
    health.joined()
    health.worked()
    for _ in range(5):
        assert not any(health.failed(0.0, may_eject=True) for _ in range(FAILURES - 1))
        assert not health.takes(0.0)
        health.worked()
        assert health.takes(0.0)
    rests = []
    for _ in range(12):
        health.failed(0.0, may_eject=False)
        rests.append(health.rests_until)
    assert rests[:4] == [REST_S, 2 * REST_S, 4 * REST_S, 8 * REST_S]
    assert rests[-1] == EJECTED_S
    assert health.takes(EJECTED_S)


def test_who_comes_back_is_tried_with_one_prompt() -> None:
    """After a silence, a new connection or an ejection: alone at first, trusted again when that went well."""
    health = Health()
    for trouble in (health.left, health.stalled):
        health.joined()
        health.worked()
        assert health.condition(0.0) is Condition.READY
        trouble()
        assert not health.takes(0.0)
        health.joined()
        assert health.takes(0.0)
        assert health.condition(0.0) is Condition.PROBING
    health.worked()
    health.stalled()
    health.stuck = False
    assert health.condition(0.0) is Condition.PROBING


def test_a_death_is_one_failure_however_many_jobs_it_takes_along() -> None:
    """A process that dies with two jobs is not nearer to its ejection than one that dies with one."""
    health = Health()
    for _ in range(FAILURES - 1):
        health.joined()
        health.left()
        assert not any(health.failed(0.0, may_eject=True) for _ in range(FAILURES))
    health.joined()
    health.left()
    assert health.failed(0.0, may_eject=True)


def test_at_most_half_of_the_fleet_is_ejected_and_the_rest_is_not_hammered() -> None:
    """With everything failing half stays in, each with growing rests between prompts."""
    scheduler = Scheduler()
    for number in range(10):
        scheduler.add(Host(f"gpu{number}"))
        scheduler.joined(f"gpu{number}", 0.0)
    for _ in range(10):
        for name in scheduler.hosts:
            scheduler.failed(name, 1.0)
    conditions = [host.health.condition(1.0) for host in scheduler.hosts.values()]
    assert conditions.count(Condition.EJECTED) == 5
    assert not any(host.health.takes(1.0) for host in scheduler.hosts.values())
    assert all(host.health.takes(1.0 + EJECTED_S) for host in scheduler.hosts.values())


def test_a_footprint_knows_work_and_models_but_not_seeds_and_texts() -> None:
    """Same shape for another seed or text; another for other sizes, steps, models or LoRAs."""
    base = _footprint(diffusion(seed=1))
    other = diffusion(seed=2)
    other.set("Positive Prompt.text", "a blue fox")
    assert _footprint(other) == base
    assert base.models == ("sd_xl_base_1.0.safetensors",)
    assert _footprint(diffusion(steps=40)).shape != base.shape
    wide = diffusion()
    wide.set("EmptyLatentImage.width", 1024)
    assert _footprint(wide).shape != base.shape
    lora = diffusion()
    lora.add("LoraLoader", lora_name="style.safetensors", strength_model=0.8)
    assert _footprint(lora).models == ("sd_xl_base_1.0.safetensors", "style.safetensors")


def _footprint(workflow: Workflow) -> Footprint:
    return footprint(workflow._nodes)


def test_costs_tell_work_from_loading() -> None:
    """A cold run teaches the load once the work is known; a slow server is told from slow work."""
    costs = Costs()
    costs.learn(1, ("a",), 12.0, cold=True, server="x")
    assert costs.run_s(1) == 12.0
    costs.learn(1, ("a",), 2.0, cold=False, server="x")
    assert costs.run_s(1) == 2.0
    assert costs.learn(1, ("a",), 11.0, cold=True, server="x") == pytest.approx(9.0)
    assert costs.load_s(("a",), "x") == pytest.approx(9.0)
    for _ in range(20):
        costs.learn(1, ("a",), 2.0, cold=False, server="x")
        costs.learn(1, ("a",), 4.0, cold=False, server="y")
    assert costs.run_s(1, "y") > 1.5 * costs.run_s(1, "x")
    assert costs.was_cold(1, ("a",), 12.0, "x") is True
    assert costs.was_cold(1, ("a",), 2.0, "x") is False


def test_percentiles_are_right_within_a_bucket() -> None:
    """The histogram's percentile lies in the bucket where the true one lies."""
    histogram = Histogram()
    for hundredth in range(1, 1001):
        histogram.take(hundredth / 100)
    for part, true in ((0.5, 5.0), (0.99, 9.9)):
        assert true / 2 <= histogram.percentile(part) <= true * 2
    assert histogram.count == 1000


def test_the_exposition_escapes_what_files_are_called() -> None:
    """A quote or a newline in a name does not break the text format."""
    ledger = Ledger()
    ledger.ended("completed", lane='od"d\n', models=("m",), server="s", ran_s=1.0, loaded_s=0.0)
    text = ledger.exposition([Metric("up", "gauge", "Whether it is.", {"": 1.0})])
    assert r'lane="od\"d\n"' in text
    assert "\nup 1\n" in f"\n{text}"
    assert all(line.startswith("#") or " " in line for line in text.splitlines())
