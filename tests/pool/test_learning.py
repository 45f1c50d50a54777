"""What is learned of run times, loads and room stays near the truth, whatever odd things happen."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.protocol.costs import REMEMBERED, Average, Costs
from async_comfy.protocol.failover import Ending
from async_comfy.protocol.footprint import footprint
from async_comfy.protocol.host import Host
from async_comfy.protocol.ledger import BUCKETS_S, Histogram, Ledger
from async_comfy.protocol.scheduler import Scheduler
from async_comfy.protocol.warmth import Standing, Warmth
from tests.live.pictures import diffusion
from tests.pool.steps import end, fleet, put, ticket


def alone(
    kinds: Callable[[int], str], run_s: Callable[[int], float], jobs: int, *, room: int = 1
) -> Scheduler:
    """One server that truly holds so many sets, and jobs one after the other; who learned of it."""
    scheduler = fleet(1, room=None)
    held: list[str] = []
    now = 0.0
    for number in range(jobs):
        kind = kinds(number)
        (placement,) = put(scheduler, ticket(kind, now), now=now)
        seconds = run_s(number) + (0.0 if kind in held else 10.0)
        held = [*[one for one in held if one != kind], kind][-room:]
        now += seconds
        end(scheduler, placement, now, seconds)
    return scheduler


@pytest.mark.parametrize("after_s", [0.2, 20.0, 200.0])
def test_work_that_takes_another_time_from_now_on_is_believed(after_s: float) -> None:
    """Ten times as long, or a tenth: within a few jobs, and not taken for loading."""
    costs = alone(lambda _: "a", lambda number: 2.0 if number < 20 else after_s, 45).costs
    assert costs.run_s(hash("a")) == pytest.approx(after_s, rel=0.3)
    assert costs.load_s(("a",)) <= 40.0


def test_a_first_load_from_a_cold_disk_is_not_taken_for_the_usual_one() -> None:
    """Later loads come from the system's cache, too quick to be told by their time: the server tells."""
    scheduler = fleet(1)
    loads = {"a": 11.0, "b": 12.0}  # seconds, the first time
    now = 0.0
    for number in range(40):
        model = "ab"[number // 2 % 2]
        kept = number % 2 == 1
        ran_s = 1.0 + (0.0 if kept else loads.get(model, 1.2))
        if not kept:
            loads.pop(model, None)
        (placement,) = put(scheduler, ticket(model, now), now=now)
        now += ran_s
        scheduler.worked(placement.host)
        scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s, kept=kept)
    for model in "ab":
        assert scheduler.costs.run_s(hash(model)) == pytest.approx(1.0, rel=0.05)
        assert scheduler.costs.load_s((model,)) == pytest.approx(1.2, rel=0.6)


@given(usual=st.floats(0.1, 60.0), odd=st.floats(100.0, 1e9))
def test_one_odd_run_changes_little(usual: float, odd: float) -> None:
    """A run of hours among short ones: what is expected next is still of their size."""
    costs = Costs()
    for _ in range(10):
        costs.learn(1, (), usual, cold=False)
    costs.learn(1, (), odd, cold=False)
    assert costs.run_s(1) <= 2.0 * usual + 1.0
    costs.learn(1, ("a",), usual + 10.0, cold=True)
    costs.learn(1, ("a",), odd, cold=True)
    assert costs.load_s(("a",)) <= 60.0


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50))
def test_an_average_stays_between_its_samples(samples: list[float]) -> None:
    """It goes nowhere where no sample was, and its deviation is none of theirs."""
    average = Average(samples[0], samples[0] / 2)
    for sample in samples[1:]:
        average.take(sample)
    slack = 1e-9 * max(samples)
    assert min(samples) - slack <= average.mean <= max(samples) + slack
    assert 0.0 <= average.deviation <= max(samples) + slack


def test_the_averages_are_those_of_rfc_6298() -> None:
    """First the sample and half of it; then the deviation from the old mean, and the mean."""
    average = Average(4.0, 2.0)
    average.samples = 100
    average.take(9.0)
    assert average.deviation == pytest.approx(2.0 + 0.2 * (5.0 - 2.0))
    assert average.mean == pytest.approx(4.0 + 0.2 * (9.0 - 4.0))


def test_the_first_samples_weigh_evenly() -> None:
    """One that came by chance before all others decides nothing."""
    average = Average(4.0, 2.0)
    average.take(2.0)
    assert average.mean == pytest.approx(3.0)
    average.take(6.0)
    assert average.mean == pytest.approx(4.0)


def test_silence_is_measured_by_the_usual_run() -> None:
    """Two minutes at least, ten times the usual where that is more, and more still where runs differ."""
    costs = Costs()
    for _ in range(30):
        costs.learn(1, (), 2.0, cold=False)
        costs.learn(2, (), 60.0, cold=False)
    assert costs.stall_s(1) == 120.0
    assert 600.0 <= costs.stall_s(2) <= 650.0
    for seconds in (20.0, 100.0) * 10:
        costs.learn(2, (), seconds, cold=False)
    assert costs.stall_s(2) > 10.0 * costs.run_s(2) + 60.0
    assert costs.stall_s(3, ("a",)) == 150.0, "five seconds of work and ten of loading are guessed"


def test_a_load_that_drowns_in_the_work_tells_nothing() -> None:
    """A minute of work and ten seconds of loading: no single run says whether it loaded."""
    costs = Costs()
    for cold, seconds in ((False, 60.0), (True, 70.0), (False, 60.0)):
        costs.learn(1, ("a",), seconds, cold=cold)
    assert costs.was_cold(1, ("a",), 70.0) is None
    assert costs.was_cold(1, ("a",), 60.0) is None


def test_of_cold_runs_alone_the_shortest_is_the_bound() -> None:
    """Work was never seen without its loading: it takes as long as the shortest of these, or less."""
    costs = Costs()
    for seconds in (20.0, 12.0, 30.0):
        costs.learn(1, ("a",), seconds, cold=True)
        assert not costs.knows(1)
    assert costs.run_s(1) == 12.0


def test_what_was_special_about_a_server_goes_with_it() -> None:
    """Another machine of the same name starts with what the fleet knows."""
    scheduler = fleet(1)
    for cold, seconds in ((False, 2.0), (True, 42.0)):
        scheduler.costs.learn(1, ("a",), seconds, cold=cold, server="gpu0")
    scheduler.costs.learn(1, ("a",), 6.0, cold=True, server="gpu1")
    fleet_s = scheduler.costs.load_s(("a",))
    assert scheduler.costs.load_s(("a",), "gpu0") > fleet_s
    scheduler.remove("gpu0")
    assert scheduler.costs.load_s(("a",), "gpu0") == fleet_s


def test_what_is_used_is_remembered_longest() -> None:
    """More odd shapes than are kept come by; the one that runs all the time stays known."""
    costs = Costs()
    costs.learn(0, (), 2.0, cold=False)
    for shape in range(1, REMEMBERED + 100):
        costs.learn(shape, (), 3.0, cold=False)
        costs.learn(0, (), 2.0, cold=False)
    assert costs._runs[0].samples == REMEMBERED + 100
    assert not costs.knows(1)
    assert costs.run_s(0) == pytest.approx(2.0)


def test_a_server_that_somebody_freed_holds_nothing_and_has_its_room() -> None:
    """What was used last was gone: somebody unloaded it, and all the others with it. The room stays."""
    scheduler = fleet(1, room=None)
    host = scheduler.hosts["gpu0"]
    now = 0.0
    for kind, seconds in (("a", 12.0), ("a", 2.0), ("b", 12.0), ("b", 2.0), ("a", 2.0), ("a", 12.0)):
        (placement,) = put(scheduler, ticket(kind, now), now=now)
        now += seconds
        end(scheduler, placement, now, seconds)
    assert host.warmth.sets() == [("a",)]
    assert host.warmth.room == 2
    assert scheduler.holders(("b",)) == []


@pytest.mark.parametrize("room", [1, 2, 3, 5])
def test_room_is_learned_whatever_was_believed(room: int) -> None:
    """One kind more than have room: what is believed comes to what there is, give or take one."""
    chance = random.Random(room)
    believed = []
    for _ in range(5):
        kinds = [f"m{chance.randrange(room + 1)}" for _ in range(150)]
        scheduler = alone(kinds.__getitem__, lambda _: 2.0, 150, room=room)
        believed.append(scheduler.hosts["gpu0"].warmth.room)
    assert all(abs(one - room) <= 1 for one in believed)
    assert room in believed


def test_what_is_believed_of_models_follows_their_use() -> None:
    """New, latest, warm, gone; and nothing is always there."""
    warmth = Warmth(2)
    assert warmth.standing(("a",)) is Standing.NEW
    for models in (("a",), ("b",)):
        warmth.use(models)
    assert [warmth.standing((name,)) for name in "ab"] == [Standing.WARM, Standing.LATEST]
    warmth.use(("c",))
    assert [warmth.standing((name,)) for name in "abc"] == [Standing.GONE, Standing.WARM, Standing.LATEST]
    assert warmth.standing(()) is Standing.LATEST


def test_as_many_sets_are_held_as_were_configured() -> None:
    """Also more than would be learned; a configured room is not learned anew."""
    host = Host("gpu0", room=40)
    for number in range(50):
        host.warmth.use((f"m{number}",))
    assert len(host.warmth.sets()) == 40
    host.warmth.learn(("m20",), Standing.WARM, was_cold=True)
    assert host.warmth.room == 40


def test_what_failed_once_with_many_models_is_not_kept_for_ever() -> None:
    """Thousands of combinations that failed or killed once: what a server remembers of them is bounded."""
    host = Host("gpu0")
    for number in range(REMEMBERED + 50):
        host.failed_with((f"m{number}",), 0.0, died=number % 2 == 0, sure=True)
    assert len(host._bad) <= REMEMBERED
    host.renew()
    assert 0 < len(host._bad) <= REMEMBERED // 2 + 50


@pytest.mark.parametrize("text", ["a fox, embedding:easynegative.pt", "embedding:bad.safetensors"])
def test_a_text_that_names_an_embedding_is_no_model(text: str) -> None:
    """Else each text were a set of models of its own, and nothing ever warm."""
    workflow = diffusion()
    before = footprint(workflow._nodes)
    workflow.set("Negative Prompt.text", text)
    assert footprint(workflow._nodes) == before


@given(st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_lies_in_the_bucket_of_the_exact_one(values: list[float], part: float) -> None:
    """Against the sorted values: never off by more than the bucket."""
    histogram = Histogram()
    for value in values:
        histogram.take(value)
    exact = sorted(values)[max(math.ceil(round(part * len(values), 9)) - 1, 0)]
    bucket = bisect_left(BUCKETS_S, exact)
    low, high = (0.0, *BUCKETS_S)[bucket], BUCKETS_S[bucket]
    assert low <= histogram.percentile(part) <= high
    assert histogram.count == len(values)
    assert histogram.total_s == pytest.approx(sum(values))


def test_loading_is_not_counted_as_work() -> None:
    """A run of twelve seconds of which ten were loading is two seconds of work."""
    ledger = Ledger()
    ledger.ended("completed", "lane", ("a",), "gpu0", ran_s=12.0, loaded_s=10.0)
    ledger.ended("lost", "lane", ("a",), "gpu0", ran_s=None, loaded_s=0.0)
    figures = ledger.figures("models")["a"]
    assert 1.0 <= figures.run.p50 <= 3.0
    assert 5.0 <= figures.load.p50 <= 11.0
    assert (figures.run.count, figures.load.count) == (1, 1)
    assert figures.ended == {"completed": 1, "lost": 1}


def test_a_ledger_is_bounded_however_many_names_there_are() -> None:
    """Many models and servers: what is told apart is bounded, and nothing is uncounted."""
    ledger = Ledger()
    for number in range(6000):
        ledger.waited(1.0, "lane", (f"m{number}",), f"gpu{number % 400}")
    assert len(ledger.lines["models"]) <= 257
    assert len(ledger._found) <= 4096
    for kind in ledger.lines:
        assert sum(one.wait.count for one in ledger.figures(kind).values()) == 6000


def test_a_server_that_left_makes_room_for_another_name() -> None:
    """Where machines come and go by the day, the five hundredth is still told apart; the sums stay."""
    ledger = Ledger()
    for number in range(500):
        ledger.waited(1.0, "lane", (), f"gpu{number}")
        assert f"gpu{number}" in ledger.figures("server")
        ledger.forget(f"gpu{number}")
    assert ledger.figures("server") == {}
    assert ledger.figures("lane")["lane"].wait.count == 500


def test_what_never_happened_is_counted_as_nought() -> None:
    """A counter that first appears as a one shows no increase: so each outcome is there from the first on."""
    ledger = Ledger()
    ledger.ended(Ending.COMPLETED, "default", (), "gpu0", ran_s=1.0, loaded_s=0.0)
    text = ledger.exposition([])
    for outcome in Ending:
        count = int(outcome is Ending.COMPLETED)
        for label in ('lane="default"', 'server="gpu0"'):
            assert f'{{{label},outcome="{outcome}"}} {count}\n' in text


def test_a_load_that_the_server_tells_of_is_never_taken_for_work() -> None:
    """However often in a row: somebody else's prompts, which nobody told us of, take the memory each time."""
    scheduler, now = fleet(1), 0.0
    for number in range(20):
        kept = number == 1  # else it loaded
        (placement,) = put(scheduler, ticket("a", now), now=now)
        ran_s = 1.0 + (0.0 if kept else 2.0)
        now += ran_s
        scheduler.worked(placement.host)
        scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s, kept=kept)
    assert scheduler.costs.run_s(hash("a")) == pytest.approx(1.0)
    assert scheduler.costs.load_s(("a",)) == pytest.approx(2.0)
    assert scheduler.counters.cold == 19


def test_only_what_is_used_tells_whether_models_were_kept() -> None:
    """A loader that nothing needs never runs, and a LoRA is laid on anew for another strength."""
    workflow = diffusion()
    workflow.add("CheckpointLoaderSimple", title="Spare", ckpt_name="spare.safetensors")
    lora = workflow.add("LoraLoader", model=["1", 0], clip=["1", 1], lora_name="style.safetensors")
    workflow["KSampler"].inputs["model"] = lora[0]
    found = workflow.derived(footprint)
    assert found.models == ("sd_xl_base_1.0.safetensors", "spare.safetensors", "style.safetensors")
    assert found.loaders == {"1"}
