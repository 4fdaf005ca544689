"""The arithmetic of a mix: shares follow the weights at any index, lengths are exact, and no state is kept."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset.mixing import Shares

WEIGHTS = st.lists(
    st.one_of(st.integers(1, 50).map(float), st.floats(0.001, 1.0), st.sampled_from([0.1, 0.2, 0.3, 1 / 3])),
    min_size=1,
    max_size=6,
)


@given(WEIGHTS, st.integers(0, 5000))
def test_blocks_follow_the_weights_without_drift(weights, block):
    shares = Shares(weights)
    total = sum(map(Fraction, weights))
    before, size = shares.before(block), shares.size
    assert before.sum() == block * size
    assert (shares.before(block) + shares.quotas(block) == shares.before(block + 1)).all()
    assert (shares.quotas(block) >= 0).all()
    for weight, count in zip(weights, before, strict=True):
        # Within one or two places per dataset, and rounding after 25 binary digits.
        assert abs(float(Fraction(weight) / total * block * size) - count) < 2 * len(weights) + 1e-6 * block * size


def test_mix_has_another_order_but_equal_length_per_seed_and_epoch():
    parts = [mpqueue.Dataset.range(700), mpqueue.Dataset.range(1000, 1300)]
    mixed = mpqueue.Dataset.mix(parts, [0.7, 0.3])
    assert len(mixed) == 1000
    orders = []
    for seed in (0, 1):
        with mpqueue.Loader(mixed, batch_size=100, workers=0, seed=seed) as loader:
            orders += [np.concatenate(list(loader)).tolist() for _ in range(2)]
    assert all(sorted(order) == [*range(700), *range(1000, 1300)] for order in orders)
    assert len(set(map(tuple, orders))) == 4
    for order in orders:  # each dataset in its separate order
        assert [x for x in order if x < 1000] == list(range(700))


def test_exhausted_datasets_restart_until_all_are_complete():
    short, long = mpqueue.Dataset.range(3).shuffle(), mpqueue.Dataset.range(100, 110)
    mixed = mpqueue.Dataset.mix([short, long], stop="all")
    assert len(mixed) == 20
    seen = list(mixed)
    assert [x for x in seen if x >= 100] == list(range(100, 110))
    passes = [x for x in seen if x < 100]
    assert len(passes) == 10
    assert all(sorted(passes[start : start + 3]) == [0, 1, 2] for start in (0, 3, 6))


def test_endless_mix_has_its_shares_at_any_index():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(10), mpqueue.Dataset.range(10, 17)], [3, 1], stop="never")
    with pytest.raises(TypeError, match="has no length"):
        len(mixed)
    far = [mixed[10**12 + place] for place in range(2048)]
    assert Counter(value < 10 for value in far)[True] == pytest.approx(1536, abs=512)
    assert mixed.take(8)[7] == mixed[7]


def test_dataset_with_weight_zero_is_never_read():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(5), mpqueue.Dataset.range(0)], [1, 0], stop="all")
    assert list(mixed) == list(range(5))


def test_order_of_access_does_not_change_elements():
    parts = [mpqueue.Dataset.range(number * 1000, number * 1000 + 300) for number in range(7)]
    mixed = mpqueue.Dataset.mix(parts, [0.31, 0.17, 0.2, 0.1, 0.05, 0.12, 0.05]).shuffle().repeat(2)
    whole = mixed.__getitems__(range(len(mixed)))
    assert [mixed[place] for place in range(0, len(mixed), 37)] == whole[::37]
    assert mixed.__getitems__([len(mixed) - 1, 3, 3, 100]) == [whole[-1], whole[3], whole[3], whole[100]]


@pytest.mark.parametrize(("stop", "last"), [("first", 0), ("all", 1)])
def test_mix_of_streams_ends_at_the_pick_of_an_exhausted_stream(stop, last):
    """A stream's end is known only when an element is requested; with an index, the mix ends sooner."""
    lengths = 6, 15
    indexed = [mpqueue.Dataset.range(100 * number, 100 * number + length) for number, length in enumerate(lengths)]
    streams = [dataset.filter(lambda _: True) for dataset in indexed]
    without_end = mpqueue.Loader(mpqueue.Dataset.mix(streams, [1, 1], stop="never"), workers=0, lanes=1, seed=0)
    with (
        without_end,
        mpqueue.Loader(mpqueue.Dataset.mix(streams, [1, 1], stop=stop), workers=0, lanes=1, seed=0) as loader,
    ):
        found = list(loader)
        forever = [batch for batch, _ in zip(without_end, range(200), strict=False)]
    picks = [value // 100 for value in forever]
    used_up = next(at for at in range(200) if picks[: at + 1].count(last) == lengths[last] + 1)
    assert found == forever[:used_up]
