"""No server stays idle while there is a job that it could and should take, and no job waits in vain."""

from dataclasses import replace

import pytest

from async_comfy.protocol.failover import Attempt, Ending, after
from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.health import EJECTED_S
from async_comfy.protocol.host import BAD_PAIR_S, LACKS_S, UNSURE_S, Host, Placement
from async_comfy.protocol.lanes import LOOK, Lane, Needs, Ticket
from async_comfy.protocol.placement import OTHERS, PATIENCE
from async_comfy.protocol.scheduler import Scheduler
from tests.pool.steps import end, fleet, put, ticket
from tests.pool.virtual import Fleet, Pooled, Prompt


def test_what_a_server_cannot_take_does_not_hide_what_it_can() -> None:
    """The models that wait longest are missing on the idle server: it takes the next ones."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash("v"), ("v",), 3600.0, cold=False)
    put(scheduler, ticket("v", needs=Needs(server="gpu1")))
    missing = [f"m{number}" for number in range(2 * LOOK)]
    scheduler.lacks("gpu0", frozenset(missing), 0.0)
    assert put(scheduler, *[ticket(model) for model in missing]) == []
    (placement,) = put(scheduler, ticket("other"))
    assert placement.ticket.footprint.models == ("other",)


def test_every_kind_of_models_has_its_turn_however_many_there_are() -> None:
    """More kinds than are looked at, none of which runs dry: what was served goes behind the others."""
    kinds = LOOK + 4
    scheduler = fleet(1)
    running = put(scheduler, *[ticket(f"m{number % kinds}") for number in range(kinds * 60)])
    now, seen = 0.0, set[str]()
    while now < (kinds + 1) * 60.0:
        (one,) = running
        (model,) = one.ticket.footprint.models
        seconds = 2.0 + (10.0 if one.cold else 0.0)
        seen.add(model)
        now += seconds
        running = end(scheduler, one, now, seconds)
    assert len(seen) == kinds


def test_lanes_with_models_of_their_own_do_not_thrash() -> None:
    """Two lanes in turn on a server with room for one: a lane's turn waits for the stint to end."""
    scheduler = fleet(1, (Lane("a"), Lane("b")))
    running = put(scheduler, *[ticket(lane, lane=lane) for _ in range(200) for lane in "ab"])
    now, loading = 0.0, 0.0
    while running:
        (one,) = running
        load_s = 10.0 if one.cold else 0.0
        loading += load_s
        now += 2.0 + load_s
        running = end(scheduler, one, now, 2.0 + load_s)
    assert loading <= now / (1 + PATIENCE) * 1.2


def test_what_was_refused_is_not_loaded() -> None:
    """A cold prompt that never ran left no models there, and is no cold load; one that ran is both."""
    scheduler = fleet(1)
    (refused,) = put(scheduler, ticket("a"))
    scheduler.never_ran(refused)
    scheduler.ended(refused.ticket, "gpu0", 1.0)
    assert (scheduler.holders(("a",)), scheduler.counters.cold) == ([], 0)
    (ran,) = put(scheduler, ticket("a"))
    assert ran.cold
    end(scheduler, ran, 13.0, 12.0)
    assert (scheduler.holders(("a",)), scheduler.counters.cold) == (["gpu0"], 1)


def test_an_urgent_job_comes_before_warm_ones_though_it_came_later() -> None:
    """Its priority is worth more than its loading: it does not wait for the warm backlog, or for its age."""
    scheduler = fleet(1)
    (running,) = put(scheduler, *[ticket("a") for _ in range(50)])
    put(scheduler, ticket("b", 1.0, boost_s=600.0), now=1.0)
    now = 1.0
    while running.ticket.footprint.models != ("b",):
        now += 2.0
        (running,) = end(scheduler, running, now)
    assert now <= 60.0, "the stint is waited for, nothing else"


def test_with_nothing_warm_the_longest_backlog_for_each_holder_is_served() -> None:
    """A hundred jobs of what three hold are less than forty of what nobody holds (D'Hondt)."""
    scheduler = fleet(4)
    for number in range(3):
        scheduler.freed(f"gpu{number}", keeping=("held",))
        scheduler.drain(f"gpu{number}", 0.0)
    scheduler.drain("gpu3", 0.0)
    put(scheduler, *[ticket("few") for _ in range(20)], *[ticket("held") for _ in range(100)])
    put(scheduler, *[ticket("most") for _ in range(40)])
    scheduler.drain("gpu3", 0.0, draining=False)
    (placement,) = scheduler.decide(0.0)
    assert placement.ticket.footprint.models == ("most",)


@pytest.mark.parametrize("busy", ["work", "strangers"])
def test_a_warm_server_that_is_busy_for_long_is_not_waited_for(busy: str) -> None:
    """What it has to do for us or for others takes longer than loading the models elsewhere."""
    scheduler = fleet(2)
    scheduler.costs.learn(1, ("a",), 100.0, cold=False)
    scheduler.costs.learn(2, ("a",), 1.0, cold=False)
    scheduler.freed("gpu0", keeping=("a",))
    if busy == "work":
        put(scheduler, Ticket(0, Footprint(1, ("a",)), Needs(server="gpu0"), 0.0))
    else:
        scheduler.others("gpu0", 9)
    (placement,) = put(scheduler, Ticket(1, Footprint(2, ("a",)), Needs(), 0.0))
    assert (placement.host, placement.cold) == ("gpu1", True)


def test_a_second_prompt_of_a_lane_may_follow_the_first_below_a_ceiling() -> None:
    """A ceiling counts servers: what goes along with a job of the lane occupies no further one."""
    scheduler = fleet(2, (Lane("video", ceiling=1),))
    scheduler.costs.learn(1, (), 0.1, cold=False)
    for name in scheduler.hosts:
        scheduler.worked(name)
    placements = put(scheduler, *[ticket(shape=1, lane="video") for _ in range(4)])
    assert [one.host for one in placements] == [placements[0].host] * 2


def test_nothing_is_parked_behind_strangers() -> None:
    """Short work goes along with ours, not where other people's prompts are in between."""
    scheduler = fleet(1)
    scheduler.costs.learn(1, (), 0.1, cold=False)
    scheduler.worked("gpu0")
    scheduler.others("gpu0", 1)
    assert len(put(scheduler, ticket(shape=1), ticket(shape=1))) == 1


def test_an_urgent_job_is_found_behind_many_models() -> None:
    """More kinds wait than a server looks at; the one with the priority is the next."""
    scheduler = fleet(1)
    (running,) = put(scheduler, ticket())
    put(scheduler, *[ticket(f"m{number}") for number in range(3 * LOOK)])
    put(scheduler, ticket("urgent", 1.0, boost_s=600.0), now=1.0)
    (placement,) = end(scheduler, running, 2.0)
    assert placement.ticket.footprint.models == ("urgent",)


def test_who_holds_models_but_may_not_take_the_job_is_not_waited_for() -> None:
    """A server that takes other lanes alone holds the models: an idle one loads them at once."""
    scheduler = Scheduler((Lane("image"), Lane("video")))
    scheduler.add(Host("gpu0", lanes=frozenset({"image"}), room=1))
    scheduler.add(Host("gpu1", room=1))
    for name in scheduler.hosts:
        scheduler.joined(name, 0.0)
    scheduler.freed("gpu0", keeping=("m",))
    (placement,) = put(scheduler, ticket("m", lane="video"))
    assert placement.host == "gpu1"


@pytest.mark.parametrize("holders", [2, 15, 40])
def test_only_holders_that_could_take_it_are_weighed(holders: int) -> None:
    """All but one server that hold the models lack the label: two servers share the backlog of that one."""
    scheduler = Scheduler()
    for number in range(holders + 1):
        big = number in {0, holders}
        scheduler.add(Host(f"gpu{number}", room=1, labels=frozenset({"big"} if big else ())))
        scheduler.joined(f"gpu{number}", 0.0)
    scheduler.costs.learn(hash("a"), ("a",), 5.0, cold=False)
    for number in range(holders):
        scheduler.freed(f"gpu{number}", keeping=("a",))
    labelled = Needs(labels=frozenset({"big"}))
    placements = put(scheduler, *[ticket("a", needs=labelled) for _ in range(30)])
    assert {placement.host for placement in placements} == {"gpu0", f"gpu{holders}"}


def test_a_job_that_waits_for_a_warm_server_waits_no_longer_than_some_loads() -> None:
    """The one that holds its models is busy for longer than was expected; then an idle one loads them."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    put(scheduler, ticket("a"))
    assert put(scheduler, ticket("a", 1.0), now=1.0) == []
    now, found = 1.0, list[Placement]()
    while not found:
        now += 0.5
        scheduler.reconsider(now)
        found = list(scheduler.decide(now))
        assert now <= 8.0 + PATIENCE * scheduler.costs.load_s(("a",))
    assert found[0].cold


def test_the_one_server_without_strangers_is_found_among_many() -> None:
    """Other people's prompts are at more servers than are looked at: the job goes to the one without."""
    scheduler = fleet(OTHERS + 8)
    for number in range(OTHERS + 7):
        scheduler.others(f"gpu{number}", 3)
    (placement,) = put(scheduler, ticket())
    assert placement.host == f"gpu{OTHERS + 7}"


def test_behind_strangers_a_job_waits_no_longer_than_they_need() -> None:
    """Another server is taken to be through sooner; it is not, and so the job goes behind the strangers."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash(""), (), 2.0, cold=False)
    (running,) = put(scheduler, ticket())
    strange = "gpu0" if running.host == "gpu1" else "gpu1"
    scheduler.others(strange, 3, 0.0)
    waiting = ticket()
    assert put(scheduler, waiting) == []
    scheduler.reconsider(3 * scheduler.costs.usual_s)
    assert [one.host for one in scheduler.decide(3 * scheduler.costs.usual_s)] == [strange]


def test_jobs_that_come_together_go_to_every_idle_server() -> None:
    """As many jobs as idle servers in one go: each server gets one."""
    scheduler = fleet(20)
    placements = put(scheduler, *[ticket() for _ in range(20)])
    assert {placement.host for placement in placements} == set(scheduler.hosts)


@pytest.mark.parametrize(
    "needs", [Needs(server="gpu2"), Needs(labels=frozenset({"l2"}))], ids=["pin", "label"]
)
def test_what_only_one_server_may_take_is_served_there_before_long(needs: Needs) -> None:
    """While others' jobs flood all servers, it waits for a turn there, not for the flood to end."""
    scheduler = Scheduler()
    for number in range(4):
        scheduler.add(Host(f"gpu{number}", room=1, labels=frozenset({f"l{number}"})))
        scheduler.joined(f"gpu{number}", 0.0)
    running = put(scheduler, *[ticket("a") for _ in range(2000)])
    special = ticket("b", needs=needs)
    running += put(scheduler, special)
    now = 0.0
    while special.shelf is not None:
        assert now < 200.0, "it starves"
        now += 2.0
        running = [found for one in running for found in end(scheduler, one, now)]
    assert next(one for one in running if one.ticket is special).host == "gpu2"


def test_every_lane_is_served_however_small_its_weight() -> None:
    """A thousandth of the weight is a thousandth of the time; a ceiling below one server is one."""
    lanes = (Lane("image"), Lane("rest", weight=0.001, ceiling=0.01))
    prompts = [Prompt(0.0, 1.0, lane="image") for _ in range(6000)]
    rest = [Prompt(1.0, 1.0, lane="rest") for _ in range(3)]
    Fleet(Pooled(Scheduler(lanes)), 2).run([*prompts, *rest])
    began = sorted(prompt.began_at or 0.0 for prompt in rest)
    assert began[0] <= 5.0
    assert began[1] <= 1100.0


def refuse(scheduler: Scheduler, placement: Placement, thing: str, now: float) -> bool:
    """As the pool does it: the server lacks something, the job goes to the next or ends; whether it ends."""
    job = placement.ticket
    scheduler.worked(placement.host)
    scheduler.never_ran(placement)
    scheduler.ended(job, placement.host, now)
    scheduler.lacks(placement.host, frozenset({thing}), now)
    needs = replace(job.needs, without=job.needs.without | {placement.host})
    if not scheduler.can_ever(needs, job.footprint.models):
        return True
    job.needs = needs
    scheduler.submit(job, now)
    return False


def test_a_thousand_jobs_with_a_wrong_name_are_all_refused_at_once() -> None:
    """They wait already when it turns out that no server has the file: none of them waits for minutes."""
    scheduler = fleet(3)
    due = put(scheduler, *[ticket("typo") for _ in range(100)])
    posts, refused = 0, 0
    while due:
        posts += 1
        refused += refuse(scheduler, due.pop(0), "typo", 1.0)
        due += scheduler.decide(1.0)
    assert (refused, scheduler.waiting) == (100, 0)
    assert posts <= 110, "each server once, and then one server for each job"


def test_what_one_server_has_waits_for_that_server() -> None:
    """The others lack the file and are not asked again while the one that has it is busy, or away."""
    scheduler = fleet(3)
    scheduler.left("gpu2")
    due, refused = put(scheduler, ticket("rare"), ticket("rare")), list[bool]()
    while due:
        refused.append(refuse(scheduler, due.pop(0), "rare", 1.0))
        due += scheduler.decide(1.0)
    assert refused == [False, False]
    assert scheduler.waiting == 2
    scheduler.joined("gpu2", 2.0)
    assert [placement.host for placement in scheduler.decide(2.0)] == ["gpu2"]


def test_what_was_missing_is_believed_for_some_minutes_also_where_nothing_waits() -> None:
    """The pool was idle meanwhile: the server is asked again all the same."""
    scheduler = fleet(1)
    scheduler.lacks("gpu0", frozenset({"a"}), 0.0)
    scheduler.reconsider(LACKS_S + 1.0)
    assert len(put(scheduler, ticket("a", LACKS_S + 1.0), now=LACKS_S + 1.0)) == 1


def test_prompts_that_fail_everywhere_keep_nobody_elses_waiting() -> None:
    """One user's prompts fail at every server: that says nothing of the servers; half of them stay open."""
    scheduler = fleet(4)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    due, now = put(scheduler, *[ticket("a", tenant="ann") for _ in range(60)]), 0.0
    while due:
        now += 1.0
        placement = due.pop(0)
        scheduler.worked(placement.host)
        scheduler.ended(placement.ticket, placement.host, now)
        scheduler.failed_with(placement, now)
        avoiding = [host.name for host in scheduler.hosts.values() if host.avoids(("a",), now)]
        assert len(avoiding) <= 2
        due += scheduler.decide(now)
    assert scheduler.waiting == 0


def test_only_failures_in_a_row_are_held_against_a_server() -> None:
    """One prompt with these models that succeeds between two that fail, and the server is given more."""
    scheduler = fleet(2)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    here = Needs(server="gpu0")
    for works in (False, True, False, True, False):
        (placement,) = put(scheduler, ticket("a", needs=here))
        scheduler.worked("gpu0")
        scheduler.ended(placement.ticket, "gpu0", 1.0, ran_s=2.0 if works else None)
        if not works:
            scheduler.failed_with(placement, 1.0)
        assert not scheduler.hosts["gpu0"].avoids(("a",), 1.0)
    scheduler.failed_with(placement, 1.0)
    assert scheduler.hosts["gpu0"].avoids(("a",), 1.0)
    anywhere, named = ticket("a"), ticket("a", needs=here)
    assert {one.ticket: one.host for one in put(scheduler, anywhere, named)} == {
        anywhere: "gpu1",
        named: "gpu0",
    }


def test_a_server_that_fails_everything_is_soon_left_alone() -> None:
    """Also at first, when nobody knows yet whether the work can succeed: two prompts, then the others.

    It fails at once, so without that it would be the one that always has room.
    """
    scheduler = fleet(3)
    busy: list[tuple[float, Placement]] = []
    due, lost, now = put(scheduler, *[ticket("a") for _ in range(100)]), 0, 0.0
    while due or busy:
        for placement in due:
            if placement.host == "gpu0":
                lost += 1
                scheduler.worked("gpu0")
                scheduler.ended(placement.ticket, "gpu0", now)
                scheduler.failed_with(placement, now)
            else:
                busy.append((now + 2.0, placement))
        due = list(scheduler.decide(now))
        if not due and busy:
            now, placement = busy.pop(0)
            scheduler.worked(placement.host)
            scheduler.ended(placement.ticket, placement.host, now, ran_s=2.0)
            due = list(scheduler.decide(now))
    assert scheduler.waiting == 0
    assert lost <= 5


def test_what_may_be_the_prompts_own_fault_keeps_a_server_out_for_seconds() -> None:
    """Two failures of work that was never seen to succeed: half a minute; of work that does: five minutes."""
    scheduler = fleet(2)
    for _ in range(2):
        (placement,) = put(scheduler, ticket("a", needs=Needs(server="gpu0")))
        scheduler.ended(placement.ticket, "gpu0", 1.0)
        scheduler.failed_with(placement, 1.0)
    gpu0 = scheduler.hosts["gpu0"]
    assert gpu0.avoids(("a",), UNSURE_S)
    assert not gpu0.avoids(("a",), UNSURE_S + 1.0)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    scheduler.failed_with(placement, 40.0)
    assert gpu0.avoids(("a",), BAD_PAIR_S + 39.0)


def test_prompts_without_models_are_told_apart_by_their_classes() -> None:
    """A server that is bad at one kind of them is given the other kinds as before."""
    scheduler = fleet(2)
    kinds = [Footprint(hash(name), (), frozenset({name})) for name in ("Upscale", "Invert")]
    for _ in range(2):
        needs = Needs(kinds[0].classes, server="gpu0")
        (placement,) = put(scheduler, replace(ticket(needs=needs), footprint=kinds[0]))
        scheduler.ended(placement.ticket, "gpu0", 1.0)
        scheduler.failed_with(placement, 1.0)
    list(scheduler.decide(1.0))
    for kind, hosts in zip(kinds, (["gpu1", "gpu1"], ["gpu0"]), strict=True):
        placed = [
            placement.host
            for _ in hosts
            for placement in put(
                scheduler, replace(ticket(needs=Needs(kind.classes)), footprint=kind), now=1.0
            )
        ]
        assert placed == hosts[: len(placed)]
        assert placed


def test_a_fleet_of_one_goes_on_after_two_prompts_that_failed() -> None:
    """There is no other server to go to, so a user's two errors keep the next job waiting for nothing."""
    scheduler = fleet(1)
    scheduler.costs.learn(hash("a"), ("a",), 2.0, cold=False)
    for now in (1.0, 2.0, 3.0):
        (placement,) = put(scheduler, ticket("a", now), now=now)
        scheduler.worked(placement.host)
        scheduler.ended(placement.ticket, placement.host, now)
        scheduler.failed_with(placement, now)


def test_another_lane_servers_are_no_hope_for_a_retry() -> None:
    """Where the rest of the fleet is reserved for other lanes, nobody can ever take it."""
    scheduler = Scheduler((Lane("image"), Lane("video")))
    scheduler.add(Host("gpu0"))
    scheduler.add(Host("gpu1", lanes=frozenset({"image"})))
    again = after([Attempt("gpu0", Ending.FAILED, begun=True)], 3)
    assert again is not None
    needs = Needs(without=again.without)
    assert scheduler.can_ever(needs, (), "image")
    assert not scheduler.can_ever(needs, (), "video")


@pytest.mark.parametrize("servers", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("died", [False, True], ids=["failing", "dying"])
def test_at_most_half_is_ejected_also_while_servers_are_away(servers: int, died: bool) -> None:
    """Everything fails, or dies and comes back again and again: half of the fleet goes on being tried."""
    scheduler = fleet(servers)
    now = 0.0
    for _ in range(6):
        now += 0.1
        for name in scheduler.hosts:
            if died:
                scheduler.left(name)
            scheduler.failed(name, now)
        if died:
            for name in scheduler.hosts:
                scheduler.joined(name, now)
        ejected = [host.name for host in scheduler.hosts.values() if now < host.health.ejected_until]
        assert len(ejected) <= servers / 2
    assert len(ejected) == servers // 2
    later = now + EJECTED_S
    put(scheduler, *[ticket() for _ in range(servers)], now=now)
    scheduler.reconsider(later)
    assert len(list(scheduler.decide(later))) == servers


def test_what_was_sent_before_an_ejection_does_not_lengthen_it() -> None:
    """Two prompts at a server fail one after the other: that is one ejection."""
    scheduler = fleet(2)
    health = scheduler.hosts["gpu0"].health
    assert [scheduler.failed("gpu0", now) for now in (1.0, 2.0, 3.0, 4.0)] == [False, False, True, False]
    assert (health.ejections, health.ejected_until) == (1, 3.0 + EJECTED_S)


def test_what_a_server_has_to_do_is_the_sum_of_what_is_there() -> None:
    """The second prompt begins when the first ends; what takes longer than expected is due at any moment."""
    scheduler = fleet(1)
    scheduler.costs.learn(1, (), 0.5, cold=False)
    scheduler.worked("gpu0")
    put(scheduler, ticket(shape=1), ticket(shape=1), now=10.0)
    host = scheduler.hosts["gpu0"]
    assert [host.hand_s(now) for now in (10.0, 10.75, 99.0)] == pytest.approx([1.0, 0.25, 0.0])
    scheduler.others("gpu0", 2, 20.0)  # they are served before ours
    assert host.hand_s(20.0) == pytest.approx(1.0)


def waits(scheduler: Scheduler, one: Ticket, now: float) -> dict[str, str]:
    """What is said of each server."""
    lines = scheduler.explain(one, now).splitlines()[1:]
    return dict(line.strip().split(": ", 1) for line in lines)


def test_the_reasons_for_waiting_are_the_true_ones() -> None:
    """Each server for another reason; what lasts is said before what passes."""
    scheduler = Scheduler((Lane("video", ceiling=1), Lane("image")))
    names = ["reserved", "resting", "draining", "late", "busy", "ceiling"]
    for name in names:
        lanes = frozenset({"image"}) if name == "reserved" else None
        scheduler.add(Host(name, lanes=lanes))
        scheduler.joined(name, 0.0)
    for name, lane in (("reserved", "image"), ("busy", "image"), ("late", "video")):
        assert len(put(scheduler, ticket(needs=Needs(server=name), lane=lane))) == 1
    scheduler.failed("resting", 99.8)
    scheduler.drain("draining", 99.0)
    scheduler.hosts["busy"].hand[next(iter(scheduler.hosts["busy"].hand))].since = 98.0
    one = ticket(lane="video", at=99.0)
    assert put(scheduler, one, now=100.0) == []
    assert waits(scheduler, one, 100.0) == {
        "reserved": "reserved for image",
        "resting": "rests for 0.3 s after a failure",
        "draining": "draining",
        "late": "busy, for longer than was expected",
        "busy": "busy for about 3.0 s",
        "ceiling": "the ceiling of lane 'video' is reached",
    }


def test_a_job_for_one_server_is_told_of_that_server() -> None:
    """What is in the way at other servers is not said of the one that was asked for."""
    scheduler = Scheduler((Lane("image"), Lane("video")))
    scheduler.add(Host("gpu0", lanes=frozenset({"image"})))
    scheduler.add(Host("gpu1"))
    wanted = Needs(server="gpu1", labels=frozenset({"24gb"}))
    assert scheduler.why_nobody(ticket(lane="video", needs=wanted), 0.0) == (
        "gpu1 cannot take that: has no label 24gb."
    )
    gone = Needs(server="gpu9")
    assert scheduler.why_nobody(ticket(needs=gone), 0.0) == "gpu9 cannot take that: it is not in this pool."


def test_a_lora_goes_to_its_checkpoint() -> None:
    """Of two servers that would both have to load something, the one that holds most of it already."""
    scheduler = fleet(2)
    for model in ("fam1", "fam2"):
        for placement in put(scheduler, ticket(model)):
            end(scheduler, placement, 2.0)
    (fam1,), (fam2,) = (scheduler.holders((model,)) for model in ("fam1", "fam2"))
    for model, home in (("fam2", fam2), ("fam1", fam1)):
        print_ = Footprint(hash(model), (model, "style"))
        (placement,) = put(scheduler, replace(ticket(), footprint=print_), now=3.0)
        assert placement.host == home
        assert placement.cold
        assert not placement.foreign


def test_servers_that_cannot_run_it_do_not_speak_for_those_that_can() -> None:
    """Two of four lack the file, the other two fail with wrong prompts: the next job waits for nobody."""
    scheduler = fleet(4)
    for name in ("gpu2", "gpu3"):
        scheduler.lacks(name, frozenset({"a"}), 0.0)
    for _ in range(2):
        for placement in put(scheduler, ticket("a"), ticket("a")):
            scheduler.worked(placement.host)
            scheduler.ended(placement.ticket, placement.host, 1.0)
            scheduler.failed_with(placement, 1.0)
    list(scheduler.decide(1.0))
    assert put(scheduler, ticket("a"), now=1.0)
