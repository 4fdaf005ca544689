"""Numbers as strings."""

import pytest

from mpqueue.system.units import count_text


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (1, ["batch"], "1 batch"),
        (2, ["batch"], "2 batches"),
        (0, ["process"], "0 processes"),
        (1000, ["worker"], "1,000 workers"),
        (3, ["index", "indices"], "3 indices"),
    ],
)
def test_count_has_right_plural(count, nouns, text):
    assert count_text(count, *nouns) == text
