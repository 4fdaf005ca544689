"""Assignment of sequences to rows: no tokens are lost, rows are closed in time, and padding is small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.dataset.rows import BestFit, Concatenation, Piece

LENGTH = 16
SIZES = st.lists(st.integers(1, 40), max_size=60)


def fill(filler, sizes):
    """Add sequences of these sizes; return rows, and for each of their pieces the number of sequences when it left."""
    rows, when = [], {}
    for token, size in enumerate(sizes):
        rest = Piece(token, 0, size, (np.arange(size),))
        while rest is not None:
            row, rest = filler.add(rest)
            if row is not None:
                rows.append(row)
                when |= {piece.token: token for piece in row}
    return rows, when


def sizes_of(row):
    return [piece.stop - piece.start for piece in row]


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, bins=st.integers(1, 4))
def test_no_token_is_lost_or_repeated(sizes, bins):
    for filler in (BestFit(LENGTH, bins), Concatenation(LENGTH)):
        rows = fill(filler, sizes)[0] + filler.finish()
        assert all(0 < sum(sizes_of(row)) <= LENGTH for row in rows)
        places = [(piece.token, place) for row in rows for piece in row for place in range(piece.start, piece.stop)]
        assert sorted(places) == [(token, place) for token, size in enumerate(sizes) for place in range(size)]
        assert all(piece.fields[0].tolist() == list(range(piece.start, piece.stop)) for row in rows for piece in row)
        assert filler.finish() == []


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES)
def test_concatenation_keeps_the_text_in_order(sizes):
    filler = Concatenation(LENGTH)
    rows = fill(filler, sizes)[0] + filler.finish()
    text = [(piece.token, place) for row in rows for piece in row for place in range(piece.start, piece.stop)]
    assert text == [(token, place) for token, size in enumerate(sizes) for place in range(size)]
    assert all(sum(sizes_of(row)) == LENGTH for row in rows[:-1])


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, bins=st.integers(1, 4))
def test_best_fit_cuts_only_sequences_longer_than_a_row(sizes, bins):
    filler = BestFit(LENGTH, bins)
    rows = fill(filler, sizes)[0] + filler.finish()
    for piece in (piece for row in rows for piece in row):
        size = sizes[piece.token]
        assert piece.start % LENGTH == 0
        assert piece.stop in (piece.start + LENGTH, size)


def test_sequence_goes_where_it_leaves_the_least_space():
    filler = BestFit(10, 3)
    assert fill(filler, [4, 8, 9])[0] == []
    ((row,), _) = fill(filler, [2])
    assert sizes_of(row) == [8, 2]


def test_fullest_row_is_closed_if_a_sequence_fits_nowhere():
    rows, _ = fill(BestFit(10, 3), [6, 8, 7, 9])
    assert [sizes_of(row) for row in rows] == [[8]]


def test_oldest_row_is_closed_after_twice_the_limit_of_open_rows():
    """Otherwise the first row, which has the most space, would stay open until the end."""
    rows, when = fill(BestFit(100, 3), [60, *[70] * 20])
    assert when[0] == 2 * 3 + 1
    assert len(rows) == 18


def test_remaining_sequences_are_fitted_again_at_the_end():
    """Longest first: in the order of arrival, 3 and 4 would share a row, and 7 and 6 would take two more."""
    filler = BestFit(10, 8)
    assert fill(filler, [3, 4, 7, 6])[0] == []
    assert [[piece.token for piece in row] for row in filler.finish()] == [[0, 2], [1, 3]]


@pytest.mark.parametrize(("sigma", "most"), [(0.5, 2.0), (1.0, 0.8), (1.5, 0.3)])
def test_best_fit_pads_at_most_two_percent_for_text_lengths(sigma, most):
    """Log-normal with median 400, rows of 2,048, 64 open rows."""
    sizes = np.maximum(1, 400 * np.exp(sigma * np.random.default_rng(0).standard_normal(8_000))).astype(int).tolist()
    filler = BestFit(2048, 64)
    rows = fill(filler, sizes)[0] + filler.finish()
    assert 100 * (1 - sum(sizes) / (2048 * len(rows))) <= most


def test_end_of_a_short_stream_has_little_padding():
    sizes = np.maximum(1, 400 * np.exp(np.random.default_rng(1).standard_normal(600))).astype(int).tolist()
    filler = BestFit(2048, 64)
    rows = fill(filler, sizes)[0] + filler.finish()
    assert 1 - sum(sizes) / (2048 * len(rows)) <= 0.02
