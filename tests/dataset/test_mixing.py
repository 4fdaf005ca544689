"""The arithmetic of a mix: shares follow the weights at any index, lengths are exact, and no state is kept."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset.mix.arithmetic import Shares

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


def test_endless_mix_has_its_shares_at_any_index():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(10), mpqueue.Dataset.range(10, 17)], [3, 1], stop="never")
    with pytest.raises(TypeError, match="has no length"):
        len(mixed)
    far = [mixed[10**12 + position] for position in range(2048)]
    assert Counter(value < 10 for value in far)[True] == pytest.approx(1536, abs=512)
    assert mixed.take(8)[7] == mixed[7]


def test_dataset_with_weight_zero_is_never_read():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(5), mpqueue.Dataset.range(0)], [1, 0], stop="all")
    assert list(mixed) == list(range(5))
