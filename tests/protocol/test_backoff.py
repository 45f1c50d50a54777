"""When to try again, and how much of it is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.protocol.backoff import LONGEST_S, Backoff, Budget, retry_after_s

chances = st.floats(0, 1, exclude_max=True)


@given(st.lists(chances, max_size=100))
def test_a_wait_is_never_above_its_ceiling_however_often_it_is_tried(drawn: list[float]) -> None:
    backoff = Backoff()
    for attempt, chance in enumerate(drawn):
        assert 0.0 <= backoff.next_s(chance) <= min(30.0, 0.5 * 2.0**attempt)


def test_the_ceiling_doubles_from_half_a_second_to_half_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.next_s(1.0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_the_whole_of_the_wait_is_left_to_chance() -> None:
    assert Backoff(attempts=3).next_s(0.0) == 0.0


def test_after_a_success_the_waits_are_short_again() -> None:
    backoff = Backoff(attempts=10)
    backoff.reset()
    assert backoff.next_s(1.0) == 0.5


@pytest.mark.parametrize(("header", "seconds"), [("0", 0.0), ("5", 5.0), (" 1.5 ", 1.5), ("3600", LONGEST_S)])
def test_retry_after_is_honoured_up_to_a_limit(header: str, seconds: float) -> None:
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize(
    "header", [None, "", "soon", "-1", "nan", "inf", "1e999", "Fri, 20 Nov 2026 09:36:29 GMT", "1 2"]
)
def test_garbage_in_retry_after_is_no_answer(header: str | None) -> None:
    assert retry_after_s(header) is None


@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_whatever_retry_after_says_the_wait_is_bounded(header: str) -> None:
    seconds = retry_after_s(header)
    assert seconds is None or 0.0 <= seconds <= LONGEST_S


@given(st.lists(st.booleans(), max_size=400))
def test_retries_add_at_most_a_fifth_and_the_reserve(wanted: list[bool]) -> None:
    budget, first, again = Budget(), 0, 0
    for retry in wanted:
        if retry:
            again += budget.retry()
        else:
            budget.ask()
            first += 1
    assert again <= 0.2 * first + 10 + 1e-6


def test_a_client_that_asked_for_little_may_try_again_all_the_same() -> None:
    budget = Budget()
    budget.ask()
    assert budget.retry()


def test_a_budget_is_spent_in_the_end_and_earned_again() -> None:
    budget = Budget()
    while budget.retry():
        pass
    for _ in range(5):
        assert not budget.retry()
        budget.ask()
    assert budget.retry()


def test_a_smaller_reserve_is_smaller_from_the_start() -> None:
    budget = Budget(reserve=2.0)
    assert [budget.retry() for _ in range(3)] == [True, True, False]
