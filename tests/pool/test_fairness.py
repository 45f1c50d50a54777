"""Lanes and tenants get their shares over time, whoever floods, boosts, comes, goes or is refused."""

from collections import Counter

import pytest

from async_comfy.errors import CallerError
from async_comfy.protocol.books import RECENT
from async_comfy.protocol.host import Placement
from async_comfy.protocol.lanes import TENANTS, Lane, LaneQueue, Needs, boost_s
from async_comfy.protocol.scheduler import Scheduler
from tests.pool.steps import end, fleet, put, ticket
from tests.pool.virtual import Fleet, Pooled, Prompt


@pytest.mark.parametrize("weights", [(1.0, 1.0), (70.0, 30.0), (1.0, 0.2)], ids=str)
def test_weights_hold_over_time_whatever_jobs_take(weights: tuple[float, float]) -> None:
    """Two lanes that never run dry, jobs of one ten times as long: the servers' time is as the weights."""
    lanes = (Lane("short", weight=weights[0]), Lane("long", weight=weights[1]))
    pooled = Pooled(Scheduler(lanes))
    prompts = [Prompt(0.0, 2.0, lane="short") for _ in range(6000)]
    prompts += [Prompt(0.0, 20.0, lane="long") for _ in range(600)]
    Fleet(pooled, 10).run(prompts)
    dry = min(max(p.began_at or 0.0 for p in prompts if p.lane == lane.name) for lane in lanes)
    busy: Counter[str] = Counter()
    for prompt in prompts:
        if prompt.began_at is not None and prompt.began_at < dry:
            busy[prompt.lane] += int(prompt.run_s)
    share = busy["short"] / busy.total()
    assert share == pytest.approx(weights[0] / sum(weights), abs=0.03)


def test_only_the_ratio_of_weights_counts() -> None:
    """A lane whose models have to be loaded waits as long with the weights 70 and 30 as with 7 and 3."""

    def waits(scale: float) -> float:
        scheduler = fleet(1, (Lane("warm", weight=7 * scale), Lane("cold", weight=3 * scale)))
        (running,) = put(scheduler, ticket("a", lane="warm"))
        cold = ticket("b", lane="cold")
        put(scheduler, cold)
        now = 0.0
        while cold.shelf is not None:
            assert now < 100.0, "it starves"
            now += 2.0
            put(scheduler, ticket("a", now, lane="warm"), now=now)
            (running,) = end(scheduler, running, now)
        return now

    assert waits(0.01) == waits(1.0) == waits(10.0)


def test_a_lane_that_has_something_running_saves_nothing_up() -> None:
    """While its one long job runs a lane has none waiting; a flood after it does not shut the others out."""
    scheduler = fleet(10, (Lane("image"), Lane("video")))
    for shape, seconds in ((1, 2.0), (2, 3600.0), (3, 60.0)):
        scheduler.costs.learn(shape, (), seconds, cold=False)
    put(scheduler, ticket(shape=2, lane="video"))
    running = put(scheduler, *[ticket(shape=1, lane="image") for _ in range(9000)])
    now = 0.0
    while now < 1800.0:
        now += 2.0
        running = [found for one in running for found in end(scheduler, one, now)]
    put(scheduler, *[ticket(shape=3, at=now, lane="video") for _ in range(50)], now=now)
    following = [found.ticket.lane for one in running for found in end(scheduler, one, now + 2.0)]
    assert following.count("image") >= 3


def test_who_comes_new_is_not_behind_what_others_were_given_for_their_priority() -> None:
    """One tenant's priority is spent by that tenant; another one who comes after it is served in turn."""
    scheduler = fleet(1)
    scheduler.costs.learn(hash(""), (), 2.0, cold=False)
    (running,) = put(scheduler, *[ticket(tenant="ann", boost_s=boost_s(10, None, 2.0)) for _ in range(400)])
    put(scheduler, *[ticket(tenant="bob") for _ in range(400)])
    now = 0.0
    for _ in range(299):
        now += 2.0
        (running,) = end(scheduler, running, now)
        assert running.ticket.tenant == "ann"
    new = ticket(at=now, tenant="carl")
    put(scheduler, new, now=now)
    for _ in range(300):
        now += 2.0
        (running,) = end(scheduler, running, now)
        if new.shelf is None:
            break
    assert now - new.came_at <= 20.0


def test_a_priority_is_spent_once() -> None:
    """Ten minutes' worth are ten minutes of the fleet; then both get the same, though one still boosts."""
    scheduler = fleet(1)
    scheduler.costs.learn(hash(""), (), 2.0, cold=False)
    (running,) = put(scheduler, *[ticket(tenant="ann", boost_s=600.0) for _ in range(600)])
    put(scheduler, *[ticket(tenant="bob") for _ in range(600)])
    served = []
    for step in range(600):
        served.append(running.ticket.tenant)
        (running,) = end(scheduler, running, 2.0 + 2.0 * step)
    assert "bob" not in served[:290]
    assert abs(served[310:].count("ann") - served[310:].count("bob")) <= 3


def test_of_tenants_whose_turns_are_equal_the_first_is_first() -> None:
    """Users who come for one job each are served as they came, not by their names."""
    scheduler = fleet(1)
    (running,) = put(scheduler, ticket(tenant="somebody"))
    last = ticket(tenant="zoe")
    put(scheduler, last, *[ticket(tenant=f"a{number}") for number in range(20)])
    now = 0.0
    for number in range(20, 40):
        now += 2.0
        put(scheduler, ticket(tenant=f"a{number}", at=now), now=now)
        (running,) = end(scheduler, running, now)
    assert last.shelf is None


def test_jobs_that_take_no_time_are_served_as_they_came() -> None:
    """Zero seconds move no tag: tenants are then in the order of their jobs, and none is passed by."""
    queue = LaneQueue(Lane("default"))
    names = [*["ann"] * 3, "bob", *["ann"] * 3]
    for name in names:
        queue.put(ticket(tenant=name))
    (shelf,) = queue.shelves()
    served = []
    for _ in names:
        _, one = shelf.next(queue.shares)
        queue.take(one, 0.0, 0.0)
        served.append(one.tenant)
    assert served == names


def test_ten_thousand_jobs_at_once_delay_nobody_else() -> None:
    """Who submits them shares the fleet with one who sends a job now and then, and comes again."""
    flood = [Prompt(0.0, 2.0, tenant="flood") for _ in range(10_000)]
    modest = [Prompt(float(at), 2.0, tenant="modest") for at in range(10, 400, 7)]
    Fleet(Pooled(), 20).run([*flood, *modest])
    assert max(prompt.wait_s for prompt in modest) <= 4.0


def test_what_did_not_run_is_not_paid_for() -> None:
    """A tenant whose prompts are refused, cached or cancelled at once is charged no full run for each."""
    scheduler = fleet(1)
    for shape in (1, 2):
        scheduler.costs.learn(shape, (), 60.0, cold=False)
    (running,) = put(scheduler, *[ticket(shape=1, tenant="cached") for _ in range(2000)])
    put(scheduler, *[ticket(shape=2, tenant="real") for _ in range(40)])
    now, served = 0.0, Counter[str]()
    for _ in range(1000):
        cached = running.ticket.tenant == "cached"
        served[running.ticket.tenant] += 1
        now += 0.1 if cached else 60.0
        scheduler.worked(running.host)
        scheduler.ended(running.ticket, running.host, now, ran_s=None if cached else 60.0)
        (running,) = scheduler.decide(now)
    assert served["cached"] >= 900


def test_what_was_charged_is_put_right_by_what_it_took() -> None:
    """Two tenants' jobs look alike, one's take ten times as long: in the end both had the same time."""
    scheduler = fleet(1)
    (running,) = put(scheduler, *[ticket(tenant="ann") for _ in range(400)])
    put(scheduler, *[ticket(tenant="bob") for _ in range(400)])
    now, busy = 0.0, Counter[str]()
    while now < 1200.0:
        tenant = running.ticket.tenant
        seconds = 20 if tenant == "ann" else 2
        busy[tenant] += seconds
        now += seconds
        (running,) = end(scheduler, running, now, float(seconds))
    assert 0.85 < busy["ann"] / busy["bob"] < 1.15


def test_who_loses_a_job_is_not_charged_for_the_outage() -> None:
    """A job that is lost after hours out of reach has cost what was expected of it, and no more."""
    scheduler = fleet(1)
    (placement,) = put(scheduler, ticket(tenant="ann"))
    charged = scheduler.lanes["default"].shares.tag("ann")
    scheduler.ended(placement.ticket, placement.host, 9999.0)
    assert scheduler.lanes["default"].shares.tag("ann") == charged


def test_a_refusal_costs_nothing() -> None:
    """A prompt that never ran leaves its tenant and its lane where they were."""
    scheduler = fleet(1)
    lane = scheduler.lanes["default"]
    for _ in range(3):
        before = lane.shares.tag("ann"), scheduler.shares.tag("default")
        (placement,) = put(scheduler, ticket("a", tenant="ann"))
        assert lane.shares.tag("ann") > before[0]
        scheduler.never_ran(placement)
        scheduler.ended(placement.ticket, placement.host, 5.0)
        assert (lane.shares.tag("ann"), scheduler.shares.tag("default")) == pytest.approx(before)


def test_what_dies_with_most_of_the_fleet_gives_back_what_was_charged() -> None:
    """A share is of the servers that were there when it was charged: an outage makes no tenant rich."""
    scheduler = fleet(10)
    scheduler.costs.learn(1, (), 3600.0, cold=False)
    placements = put(scheduler, *[ticket(shape=1, tenant="ann") for _ in range(10)])
    for name in list(scheduler.hosts)[:9]:
        scheduler.left(name)
    for placement in placements[:9]:
        scheduler.ended(placement.ticket, placement.host, 0.0)
    assert scheduler.lanes["default"].shares.tag("ann") == pytest.approx(360.0)
    assert scheduler.shares.tag("default") == pytest.approx(360.0)


def test_what_waits_behind_another_prompt_is_not_charged_for_that() -> None:
    """The second of two prompts at a server is cancelled there: it used nothing, and the first goes on."""
    scheduler = fleet(1)
    scheduler.costs.learn(1, (), 0.5, cold=False)
    scheduler.worked("gpu0")
    first, second = put(
        scheduler, ticket(shape=1, tenant="ann"), ticket(shape=1, tenant="bob"), ticket(shape=1, at=9.0)
    )
    scheduler.ended(second.ticket, second.host, 0.25)
    assert scheduler.lanes["default"].shares.tag("bob") == pytest.approx(0.0)
    assert scheduler.hosts["gpu0"].hand[first.ticket].since == 0.0


def test_a_million_tenants_are_forgotten_and_cost_no_more_than_a_few() -> None:
    """One job each, as a web page's visitors: what is kept of them is bounded, and so are the heaps."""
    queue = LaneQueue(Lane("default"))
    waiting = [ticket(tenant=f"t{number}") for number in range(20)]
    for one in waiting:
        queue.put(one)
    for number in range(20, 20 * TENANTS):
        head = waiting[0].shelf
        assert head is not None
        _, one = head.next(queue.shares)
        queue.take(one, 0.0, 1.0)
        waiting.remove(one)
        waiting.append(ticket(tenant=f"t{number}"))
        queue.put(waiting[-1])
    assert len(queue.shares.tags) <= 2 * TENANTS
    shelf = waiting[0].shelf
    assert shelf is not None
    assert len(shelf._turns) + len(shelf._lines) + len(shelf._entries) < 500


def test_jobs_that_were_withdrawn_leave_nothing_behind() -> None:
    """While one waits for a server that is away, thousands come and are cancelled: memory does not grow."""
    scheduler = fleet(1)
    away = Needs(server="away")
    first = ticket(needs=away)
    put(scheduler, first)
    for number in range(2000):
        one = ticket(needs=away, tenant=f"t{number % 7}", boost_s=float(number))
        scheduler.submit(one, 0.0)
        assert scheduler.withdraw(one)
    shelf = first.shelf
    assert shelf is not None
    assert sum(map(len, shelf._lines.values())) + len(shelf._turns) < 500
    assert shelf.next(scheduler.lanes["default"].shares)[1] is first


def test_rising_priorities_do_not_pile_up() -> None:
    """Each job has a higher priority than the one before: the newest is first, and the heap stays small."""
    scheduler = fleet(1)
    (running,) = put(scheduler, ticket(tenant="ann"))
    put(scheduler, *[ticket(tenant="ann", boost_s=float(number)) for number in range(2000)])
    (shelf,) = scheduler.lanes["default"].shelves()
    assert len(shelf._turns) < 500
    boosts = []
    for step in range(50):
        (running,) = end(scheduler, running, 2.0 + step)
        boosts.append(running.ticket.boost_s)
    assert boosts == [1999.0 - number for number in range(50)]


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_priority_is_a_number(priority: float) -> None:
    """What cannot be put in order is refused; a job with it would be found by no one, for ever."""
    with pytest.raises(CallerError, match="priority"):
        boost_s(priority, None, 5.0)


def test_a_deadline_is_a_number() -> None:
    """No number is refused; one that is over, or far away, is a deadline like any other."""
    with pytest.raises(CallerError, match="deadline"):
        boost_s(0.0, float("nan"), 5.0)
    assert boost_s(0.0, float("inf"), 5.0) == 0.0
    assert boost_s(0.0, -1.0, 5.0) == boost_s(0.0, 0.0, 5.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_above_nothing_and_finite(weight: float) -> None:
    """A lane of infinite weight would take everything, one of none nothing."""
    with pytest.raises(ValueError, match="weight"):
        Lane("odd", weight=weight)


@pytest.mark.parametrize(
    ("ceiling", "servers", "most"),
    [(0.29, 100, 29), (0.5, 3, 1), (0.01, 20, 1), (0.8, 20, 16), (1, 20, 1), (2.5, 20, 2), (30, 20, 20)],
)
def test_a_ceiling_is_a_number_of_servers_or_a_share(ceiling: float, servers: int, most: int) -> None:
    """Never more than it says, and at least one server."""
    scheduler = fleet(servers, (Lane("video", ceiling=ceiling),))
    assert len(put(scheduler, *[ticket(lane="video") for _ in range(servers)])) == most


def test_a_ceiling_is_free_again_when_a_server_leaves() -> None:
    """What died with a server or was taken out with it occupies nothing any more."""
    scheduler = fleet(2, (Lane("video", ceiling=1),))
    (placement,) = put(scheduler, ticket(lane="video"))
    scheduler.remove(placement.host)
    (other,) = put(scheduler, ticket(lane="video"))
    assert other.host != placement.host


def test_a_tenant_that_was_served_here_gains_little_by_it() -> None:
    """Who returns to its server goes a little before its turn, never for ever."""
    scheduler = fleet(1)
    scheduler.costs.learn(hash(""), (), 2.0, cold=False)
    (running,) = put(scheduler, *[ticket(tenant="home") for _ in range(300)])
    (running,) = end(scheduler, running, 2.0)
    put(scheduler, *[ticket(tenant=f"t{number}") for number in range(5) for _ in range(40)])
    served: list[Placement] = []
    for step in range(200):
        served.append(running)
        (running,) = end(scheduler, running, 4.0 + 2.0 * step)
    counts = Counter(one.ticket.tenant for one in served)
    assert max(counts.values()) - min(counts.values()) <= 5
    assert len(scheduler.hosts["gpu0"].recent) <= RECENT
