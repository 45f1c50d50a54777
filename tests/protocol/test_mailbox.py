"""What waits for one watcher: facts stay, gauges coalesce, and what went is counted."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import events
from async_comfy._live import mailbox
from async_comfy._live.mailbox import Item, Mailbox
from async_comfy.events import Event
from tests.protocol import wire

P = "9b9f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a44"
KINDS = ("fact", "step", "snapshot", "preview")
kinds = st.lists(st.sampled_from(KINDS), max_size=40)


def item(kind: str, number: int, *, decoded: bool) -> Item:
    """The `number`th of its kind."""
    if kind == "preview":
        return events.Preview(prompt_id=P, data=str(number).encode())
    if kind == "fact":
        return events.Executing(prompt_id=P, node=str(number))
    rows = {"1": (float(number), 9.0, "running")}
    frame = wire.step(P, "1", number, 9) if kind == "step" else wire.snapshot(P, rows)
    return frame.event if decoded else frame.raw


def number_of(event: Event) -> tuple[str, int]:
    match event:
        case events.Preview(data=data):
            return "preview", int(data)
        case events.Executing(node=str(node)):
            return "fact", int(node)
        case events.Progress(value=value):
            return "step", int(value)
        case events.ProgressState(nodes=nodes):
            return "snapshot", int(nodes["1"].value)
    raise AssertionError(event)


def drained(box: Mailbox) -> list[Event]:
    return list(iter(box.take, None))


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), st.integers(1, 200)), max_size=12))
def test_facts_stay_the_newest_gauges_stay_and_what_went_is_counted(
    bursts: list[tuple[str, bool, int]],
) -> None:
    put = [(kind, decoded) for kind, decoded, times in bursts for _ in range(times)]
    box = Mailbox()
    for number, (kind, decoded) in enumerate(put):
        box.put(item(kind, number, decoded=decoded))
    waiting = len(box)
    found = [number_of(event) for event in drained(box)]
    assert waiting == len(found) == len(put) - box.dropped
    assert [number for _, number in found] == sorted(number for _, number in found)
    sent = [(kind, number) for number, (kind, _) in enumerate(put)]
    assert [fact for fact in found if fact[0] == "fact"] == [fact for fact in sent if fact[0] == "fact"]
    for kind in KINDS:
        assert [one for one in found if one[0] == kind][-1:] == [one for one in sent if one[0] == kind][-1:]


@given(st.lists(st.sampled_from(KINDS), max_size=8))
def test_a_reader_that_is_only_a_little_behind_misses_nothing(few: list[str]) -> None:
    box = Mailbox()
    for number, kind in enumerate(few):
        box.put(item(kind, number, decoded=True))
    assert [number_of(event) for event in drained(box)] == [(kind, number) for number, kind in enumerate(few)]
    assert box.dropped == 0


@pytest.mark.parametrize("kind", ["step", "snapshot", "preview"])
def test_gauges_that_nobody_takes_are_bounded(kind: str) -> None:
    box = Mailbox()
    for number in range(2_000):
        box.put(item(kind, number, decoded=False))
        assert len(box) <= mailbox.HEAVIEST


def test_even_facts_have_a_bound() -> None:
    most = mailbox.MOST_FACTS + mailbox.HEAVIEST
    box = Mailbox()
    for number in range(most + 5):
        box.put(item("fact", number, decoded=True))
    assert (len(box), box.dropped) == (most, 5)
    assert number_of(drained(box)[0]) == ("fact", 5)


@given(kinds, kinds)
def test_a_copy_has_the_same_content_and_a_life_of_its_own(before: list[str], after: list[str]) -> None:
    box = Mailbox()
    for number, kind in enumerate(before):
        box.put(item(kind, number, decoded=True))
    copy, untouched, waiting = box.copy(), box.copy(), len(box)
    for number, kind in enumerate(after, len(before)):
        box.put(item(kind, number, decoded=True))
        copy.put(item(kind, number, decoded=True))
    assert drained(copy) == drained(box)
    assert len(untouched) == waiting


@pytest.mark.anyio
async def test_a_reader_that_waits_is_woken_by_the_next_and_by_the_end() -> None:
    box = Mailbox()
    reader = asyncio.ensure_future(box.wait())
    await asyncio.sleep(0)
    assert not reader.done()
    box.put(item("fact", 1, decoded=True))
    await reader
    assert box.take() == events.Executing(prompt_id=P, node="1")
    reader = asyncio.ensure_future(box.wait())
    await asyncio.sleep(0)
    assert not reader.done()
    box.close()
    await reader
    assert box.take() is None


@pytest.mark.anyio
async def test_what_waits_is_there_at_once_and_can_be_taken_after_the_end() -> None:
    box = Mailbox()
    box.put(item("fact", 1, decoded=True))
    box.close()
    await box.wait()
    assert box.take() == events.Executing(prompt_id=P, node="1")


@pytest.mark.anyio
async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    box = Mailbox()
    reader = asyncio.ensure_future(box.wait())
    await asyncio.sleep(0)
    box.put(item("fact", 1, decoded=True))
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert box.take() == events.Executing(prompt_id=P, node="1")


def test_a_frame_that_only_begins_like_a_gauge_costs_that_frame_and_not_the_reader() -> None:
    box = Mailbox()
    box.put(wire.step(P, "1", 1, 9).raw[:-1])
    box.put(item("fact", 2, decoded=True))
    assert drained(box) == [events.Executing(prompt_id=P, node="2")]


def test_what_it_says_of_itself_is_what_waits_and_what_went() -> None:
    box = Mailbox()
    for number in range(100):
        box.put(item("preview", number, decoded=True))
    assert repr(box) == f"<Mailbox {len(box)} waiting, {100 - len(box)} dropped>"
