"""Processes are killed, frozen, started again, joined by others: every job ends right, none runs twice."""

from tests.live.pool.turmoil import Turmoil


def test_a_fleet_in_turmoil_ends_every_job_right() -> None:
    """Held against what the servers wrote down before they died.

    A prompt may begin in the instant in which its process dies, before any event can leave it: at most one
    per death.
    """
    account = Turmoil(2, jobs=240, servers=4, every=16, run_ms=40).run()

    assert account.acts["kill"] >= 3
    assert account.acts["freeze"] >= 1
    assert account.acts["add"] >= 1
    assert account.wrong == []
    assert account.unknown == 0
    assert account.unseen <= account.acts["kill"]
    assert len(account.twice) <= account.unseen
    assert account.states["completed"] + account.states["lost"] == 240
    assert account.states["lost"] <= account.acts["kill"] * 2
