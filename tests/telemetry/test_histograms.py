"""Distributions of times: their values, and the cost of recording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqueue.telemetry.recorder import Distribution, Histogram

TIMES = st.lists(st.integers(0, 10**12), min_size=1, max_size=50)


def distribution_of(times):
    histogram = Histogram()
    for ns in times:
        histogram.add(ns)
    return histogram.snapshot()


@given(TIMES, st.sampled_from([0.5, 0.95, 0.99]))
def test_quantile_is_accurate_within_an_eighth(times, share):
    found = distribution_of(times).quantile_s(share) * 1e9
    times = sorted(times)
    exact = times[min(len(times) - 1, max(0, -int(-share * len(times) // 1) - 1))]
    assert exact * 7 / 8 - 1 <= found <= exact * 9 / 8 + 1


@given(TIMES)
def test_count_sum_and_mean_are_exact(times):
    found = distribution_of(times)
    assert found.count == len(times)
    assert found.total_s == pytest.approx(sum(times) / 1e9)
    assert found.mean_s == pytest.approx(sum(times) / 1e9 / len(times))


@given(TIMES, TIMES)
def test_subtraction_undoes_addition(one, other):
    left = distribution_of(one + other) - distribution_of(one)
    assert left.buckets == distribution_of(other).buckets
    assert (distribution_of(one) + distribution_of(other)).buckets == distribution_of(one + other).buckets


def test_distribution_without_times_is_zero():
    empty = Distribution()
    assert (empty.count, empty.mean_s, empty.p50_s, empty.p99_s, empty.total_s) == (0, 0, 0, 0, 0)
    assert empty.num_within([1, 2]) == [0, 0]


def test_num_within_counts_times_up_to_bounds():
    found = distribution_of([1_000, 1_000_000, 2_000_000, 10**9])
    assert found.num_within([1e-5, 5e-3, 5, 1e6]) == [1, 3, 4, 4]
