"""Results become tables, plots and a page."""

import re

from benchmarks.chart import svg
from benchmarks.tables import Bars, Table, shown
from benchmarks.traffic import EVENTS, run


def test_a_prompt_is_61_messages() -> None:
    """Two tell of its coming, the rest of its run."""
    assert 2 + sum(map(len, run())) == EVENTS


def test_a_chart_is_safe_whatever_its_names_hold() -> None:
    drawn = svg(Bars("x", "a < b & c", "us", {"1 > 0": {"<ours>": 1.0, "b": 2.0}}))

    assert "a &lt; b &amp; c (us)" in drawn
    assert "&lt;ours&gt;" in drawn
    assert "<ours>" not in drawn


def test_the_longest_bar_is_the_largest_value() -> None:
    drawn = svg(Bars("x", "t", "us", {"": {"half": 5.0, "whole": 10.0}}))

    _, half, whole = (int(width) for width in re.findall(r'<rect[^>]* width="(\d+)"', drawn))
    assert whole == 2 * half


def test_a_table_has_a_cell_for_every_value() -> None:
    table = Table("T", ["", "a", "b"], [("x", 1.0, None), ("y", "words", 12345.0)], "Note.")

    assert "| x | 1 | - |" in table.markdown()
    assert "| y | words | 12,345 |" in table.markdown()
    assert table.text().splitlines()[-1].split() == ["y", "words", "12,345"]


def test_numbers_show_three_digits_that_matter() -> None:
    assert [shown(value) for value in (0.1234, 1.234, 12.34, 123.4, 12340.0)] == [
        "0.12",
        "1.23",
        "12.3",
        "123",
        "12,340",
    ]
