"""``scripts/gauntlet``: a stream is exact across kills, and the page shows the recorded results."""

import pytest
from helpers.scripts import script

own, table = script("parts.gauntlet.own"), script("parts.gauntlet.table")


def test_the_page_shows_the_recorded_results():
    page = table.PAGE.read_text("utf-8")
    assert table.with_current_tables(page, table.load()) == page


@pytest.mark.slow
@pytest.mark.parametrize("kind", [own.LOADER, own.SERVER])
def test_a_stream_across_two_kills_is_reported_as_exact(kind):
    lines = []
    assert own.run(2, 7, lines.append, worlds=(1, 2), kinds=[kind]), lines
    assert lines[-1] == "seed 7: 2 kills and resumes in 1 streams: 0 lost, 0 repeated, order equal"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([[[[0], [1]]], [[[2]]]], (0, 0, True)), ([[[[0], [1]]], []], (1, 0, False)), ([[[[0], [1]]], [[[1], [2]]]], (0, 1, False))],
    ids=["exact", "lost", "twice"],
)  # fmt: skip
def test_lost_and_repeated_samples_are_counted(parts, expected):
    assert script("parts.gauntlet.verdict").judge([[0], [1], [2]], parts) == expected
