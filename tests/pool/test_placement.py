"""Placement: what is chosen, what it is weighed against, and that nothing starves."""

from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.host import LACKS_S
from async_comfy.protocol.lanes import Lane, Needs, Ticket, boost_s
from async_comfy.protocol.placement import PATIENCE
from tests.pool.steps import end, fleet, put, ticket


def test_warm_models_are_preferred_to_the_order_of_coming() -> None:
    """A server goes on with the models that it holds, although others came a little earlier."""
    scheduler = fleet(1)
    (first,) = put(scheduler, ticket("a"))
    put(scheduler, ticket("b", 1.0), ticket("a", 2.0), now=2.0)
    (then,) = end(scheduler, first, 3.0)
    assert then.ticket.footprint.models == ("a",)
    assert not then.cold


def test_a_cold_model_waits_at_most_some_loads() -> None:
    """With warm jobs coming for ever, the cold one is served after `PATIENCE` loads and the stint."""
    scheduler = fleet(1)
    (running,) = put(scheduler, ticket("a"))
    cold = ticket("b", 0.0)
    put(scheduler, cold)
    now = 0.0
    while cold.shelf is not None:
        assert now < 100.0, "it starves"
        now += 2.0
        put(scheduler, ticket("a", now), now=now)
        (running,) = end(scheduler, running, now)
    load_s = scheduler.costs.load_s(("b",))
    assert PATIENCE * load_s <= now <= (2 * PATIENCE + 2) * load_s


def test_many_models_on_few_servers_do_not_thrash() -> None:
    """Twelve models on one server with room for one: one part in 1 + PATIENCE goes into loading, no more."""
    scheduler = fleet(1)
    now, loads, last = 0.0, 0, ""
    running = put(scheduler, *[ticket(f"m{number % 12}") for number in range(600)])
    while running:
        (one,) = running
        load_s = 10.0 if one.ticket.footprint.models[0] != last else 0.0
        last, loads = one.ticket.footprint.models[0], loads + (load_s > 0)
        now += 2.0 + load_s
        running = end(scheduler, one, now, 2.0 + load_s)
    assert not scheduler.waiting
    assert loads * 10.0 <= now / (1 + PATIENCE) * 1.2


def test_a_short_wait_is_better_than_a_load() -> None:
    """An idle cold server leaves a job to the warm one that is through sooner; a long backlog it takes on."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    (first,) = put(scheduler, ticket("a"))
    (second,) = end(scheduler, first, 12.0, 12.0) or put(scheduler, ticket("a", 12.0), now=12.0)
    assert second.host == first.host
    assert put(scheduler, ticket("a", 12.0), now=12.0) == []
    more = put(scheduler, *[ticket("a", 12.0) for _ in range(30)], now=12.0)
    assert [placement.cold for placement in more] == [True]
    assert more[0].host != first.host


def test_equal_tenants_get_equal_shares_whatever_they_submit() -> None:
    """One who floods the lane and one who sends a little are served in turn while both wait."""
    scheduler = fleet(1)
    (running,) = put(scheduler, *[ticket(tenant="flood") for _ in range(200)])
    put(scheduler, *[ticket(at=1.0, tenant="modest") for _ in range(20)], now=1.0)
    served = []
    for step in range(40):
        (running,) = end(scheduler, running, 2.0 + step)
        served.append(running.ticket.tenant)
    assert abs(served.count("flood") - served.count("modest")) <= 2


def test_lanes_share_by_weight_in_work_not_in_jobs() -> None:
    """Two lanes of equal weight, one with jobs ten times as long: each gets half of the time."""
    scheduler = fleet(1, (Lane("short"), Lane("long")))
    for shape, seconds in ((1, 2.0), (2, 20.0)):
        scheduler.costs.learn(shape, (), seconds, cold=False)
    lanes = {1: "short", 2: "long"}
    tickets = [
        Ticket(number, Footprint(shape), Needs(), 0.0, lane=lanes[shape])
        for number in range(300)
        for shape in (1, 2)
    ]
    (running,) = put(scheduler, *tickets)
    now, busy = 0.0, {"short": 0.0, "long": 0.0}
    while now < 800.0:
        seconds = {"short": 2.0, "long": 20.0}[running.ticket.lane]
        busy[running.ticket.lane] += seconds
        now += seconds
        (running,) = end(scheduler, running, now, seconds)
    assert 0.8 < busy["short"] / busy["long"] < 1.25


def test_priority_and_deadline_order_a_lane() -> None:
    """Higher priority first, then the earliest deadline, then the order of coming."""
    scheduler = fleet(1)
    (running,) = put(scheduler, ticket())
    jobs = {
        "plain": ticket(at=1.0),
        "late deadline": ticket(at=1.0, boost_s=boost_s(0, 300.0, 5.0)),
        "soon": ticket(at=1.0, boost_s=boost_s(0, 30.0, 5.0)),
        "priority": ticket(at=1.0, boost_s=boost_s(20, None, 5.0)),
    }
    put(scheduler, *jobs.values(), now=1.0)
    order = []
    for step in range(4):
        (running,) = end(scheduler, running, 2.0 + step)
        order.append(next(name for name, job in jobs.items() if job is running.ticket))
    assert order == ["priority", "soon", "late deadline", "plain"]


def test_a_second_prompt_goes_along_only_where_the_first_is_short() -> None:
    """Short work is sent ahead so that no pause is felt; behind long work nothing is parked."""
    scheduler = fleet(1)
    scheduler.costs.learn(1, (), 0.05, cold=False)
    scheduler.costs.learn(2, (), 30.0, cold=False)
    short = [Ticket(number, Footprint(1), Needs(), 0.0) for number in range(4)]
    (first,) = put(scheduler, *short)  # alone: a server that just came is tried with one prompt
    assert len(end(scheduler, first, 1.0, 0.05)) == 2
    long = [Ticket(10 + number, Footprint(2), Needs(), 0.0) for number in range(2)]
    other = fleet(1)
    other.costs.learn(2, (), 30.0, cold=False)
    other.worked("gpu0")
    assert len(put(other, *long)) == 1


def test_a_key_returns_to_its_server() -> None:
    """A tenant's next job goes where its last one ran, if that server is free."""
    scheduler = fleet(3)
    placements = put(scheduler, *[ticket(tenant=name) for name in ("ann", "bob", "cid")])
    homes = {placement.ticket.tenant: placement.host for placement in placements}
    for placement in placements:
        end(scheduler, placement, 2.0)
    for name in ("cid", "ann", "bob"):
        (placement,) = put(scheduler, ticket(at=3.0, tenant=name), now=3.0)
        assert placement.host == homes[name]


def test_the_server_without_strangers_is_taken_first() -> None:
    """Prompts of other people count: a job goes where nobody else waits."""
    scheduler = fleet(3)
    scheduler.others("gpu0", 2)
    scheduler.others("gpu1", 1)
    (placement,) = put(scheduler, ticket("a"))
    assert placement.host == "gpu2"


def test_the_room_for_models_is_learned() -> None:
    """A server that holds more sets than believed is believed to hold more; one that holds fewer, fewer."""
    roomy = fleet(1, room=None)
    host = roomy.hosts["gpu0"]
    now, seen = 0.0, set[str]()
    for turn in range(24):
        model = f"m{turn % 4}"
        (placement,) = put(roomy, ticket(model, now), now=now)
        ran_s, now = 2.0 + (10.0 if model not in seen else 0.0), now + 50.0
        if turn // 4 == 1:
            ran_s = 2.0
        seen.add(model)
        end(roomy, placement, now, ran_s)
    assert host.warmth.room >= 4


def test_what_failed_twice_at_one_server_goes_elsewhere() -> None:
    """A (server, models) pair that fails where such work is known to succeed is left alone for a while."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    hosts = []
    now = 0.0
    for _ in range(6):
        (placement,) = put(scheduler, ticket("a", now), now=now)
        hosts.append(placement.host)
        now += 40.0
        failed = placement.host == "gpu0"
        if failed:
            scheduler.failed_with(placement, now)
        scheduler.worked(placement.host)
        scheduler.ended(placement.ticket, placement.host, now, ran_s=None if failed else 2.0)
    assert hosts.count("gpu0") == 2
    assert hosts[-1] == "gpu1"


def test_a_job_waits_for_a_server_of_ours_rather_than_behind_strangers() -> None:
    """Nobody is put behind somebody else's prompts while a server without them is through sooner."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash(""), (), 5.0, cold=False)
    (first,) = put(scheduler, ticket())
    strange = "gpu0" if first.host == "gpu1" else "gpu1"
    scheduler.others(strange, 3, 0.0)
    second = ticket()
    assert put(scheduler, second) == []
    assert "another server is through sooner" in scheduler.explain(second, 0.0)
    assert [placement.host for placement in end(scheduler, first, 5.0, 5.0)] == [first.host]


def test_strangers_everywhere_keep_nobody_waiting() -> None:
    """Where every server has prompts of others, the job goes behind the fewest."""
    scheduler = fleet(2)
    scheduler.others("gpu0", 3)
    scheduler.others("gpu1", 1)
    (placement,) = put(scheduler, ticket())
    assert placement.host == "gpu1"


def test_a_pair_of_server_and_models_that_kills_is_left_alone_also_after_a_restart() -> None:
    """A server that died twice with some models is not given them for a while; others may have them."""
    scheduler = fleet(2)
    now, hosts = 0.0, []
    for _ in range(4):
        (placement,) = put(scheduler, ticket("a", now), now=now)
        hosts.append(placement.host)
        scheduler.left(placement.host)
        scheduler.failed_with(placement, now, died=True)
        scheduler.ended(placement.ticket, placement.host, now)
        scheduler.joined(placement.host, now)
        now += 40.0
    assert max(hosts.count(host) for host in hosts) <= 2
    last = ticket("a", now)
    assert put(scheduler, last, now=now) == []
    assert "failed with these models" in scheduler.explain(last, now)
    (other,) = put(scheduler, ticket("b", now), now=now)
    end(scheduler, other, now + 2.0)
    scheduler.reconsider(now + 400.0)
    assert len(list(scheduler.decide(now + 400.0))) == 1


def test_a_missing_file_is_asked_for_again_after_a_while() -> None:
    """What a server lacked may have been put there: it is believed to lack it for some minutes only."""
    scheduler = fleet(1)
    scheduler.lacks("gpu0", frozenset({"a"}), 0.0)
    job = ticket("a")
    assert put(scheduler, job) == []
    scheduler.reconsider(LACKS_S - 1.0)
    assert list(scheduler.decide(LACKS_S - 1.0)) == []
    scheduler.reconsider(LACKS_S + 1.0)
    assert [placement.ticket for placement in scheduler.decide(LACKS_S + 1.0)] == [job]


def test_lanes_and_limits_change_while_jobs_wait_and_run() -> None:
    """A lane that is gone stays until its jobs have ended; a new ceiling counts at once."""
    scheduler = fleet(2, (Lane("image"), Lane("video")))
    (running,) = put(scheduler, ticket(lane="video"))
    scheduler.limit((Lane("image", ceiling=1),), 1, 0.0)
    assert list(scheduler.lanes) == ["image", "video"]
    assert len(put(scheduler, ticket(lane="image"), ticket(lane="image"))) == 1
    end(scheduler, running, 2.0)
    scheduler.limit((Lane("image"),), 1, 0.0)
    assert list(scheduler.lanes) == ["image"]
    assert len(list(scheduler.decide(2.0))) == 1
