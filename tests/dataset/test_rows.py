"""Assignment of sequences to rows: no tokens are lost, and padding is small."""

import numpy as np
import pytest
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.dataset.transformations.pack.bin_packing import BestFit, Concatenation, Piece

LENGTH = 16
SIZES = st.lists(st.integers(1, 40), max_size=60)


def fill(filler, sizes):
    """Add sequences of these sizes; return all rows."""
    rows = []
    for token, size in enumerate(sizes):
        rest = Piece(token, 0, size, (np.arange(size),))
        while rest is not None:
            row, rest = filler.add(rest)
            if row is not None:
                rows.append(row)
    return rows + filler.finish()


def sizes_of(row):
    return [piece.stop - piece.start for piece in row]


@settings(max_examples=part_of(60, 4), deadline=None)
@given(sizes=SIZES, bins=st.integers(1, 4))
def test_no_token_is_lost_or_repeated(sizes, bins):
    for filler in (BestFit(LENGTH, bins), Concatenation(LENGTH)):
        rows = fill(filler, sizes)
        assert all(0 < sum(sizes_of(row)) <= LENGTH for row in rows)
        positions = [
            (piece.token, position) for row in rows for piece in row for position in range(piece.start, piece.stop)
        ]
        assert sorted(positions) == [(token, position) for token, size in enumerate(sizes) for position in range(size)]
        assert all(piece.fields[0].tolist() == list(range(piece.start, piece.stop)) for row in rows for piece in row)
        assert filler.finish() == []


@pytest.mark.parametrize(("sigma", "most"), [(0.5, 2.0), (1.0, 0.8), (1.5, 0.3)])
def test_best_fit_pads_at_most_two_percent_for_text_lengths(sigma, most):
    """Log-normal with median 400, rows of 2,048, 64 open rows."""
    sizes = np.maximum(1, 400 * np.exp(sigma * np.random.default_rng(0).standard_normal(8_000))).astype(int).tolist()
    rows = fill(BestFit(2048, 64), sizes)
    assert 100 * (1 - sum(sizes) / (2048 * len(rows))) <= most


def test_end_of_a_short_stream_has_little_padding():
    sizes = np.maximum(1, 400 * np.exp(np.random.default_rng(1).standard_normal(600))).astype(int).tolist()
    rows = fill(BestFit(2048, 64), sizes)
    assert 1 - sum(sizes) / (2048 * len(rows)) <= 0.02
