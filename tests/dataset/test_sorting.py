"""The stage `sort`: a stable order of keys, computed once in the process that starts the workers."""

import os
import pickle

import hypothesis
import pytest
from helpers.sweeps import part_of
from hypothesis import strategies as st

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(2)

FLOATS = st.floats(allow_nan=False)
KINDS = [st.integers(-5, 5), FLOATS, st.text(max_size=2), st.integers() | FLOATS]
KEYS = st.one_of(*map(st.lists, [*KINDS, st.tuples(st.integers(0, 2), st.text(max_size=1))]))


def first(pair):
    return pair[0]


@hypothesis.given(keys=KEYS)
@hypothesis.settings(max_examples=part_of(60, 4))
def test_order_equals_that_of_sorted(keys):
    pairs = [(key, index) for index, key in enumerate(keys)]
    assert list(Dataset(pairs).sort(first)) == sorted(pairs, key=first)


def test_sorted_dataset_is_indexed():
    words = Dataset(["ccc", "a", "bb", "dd", "e"]).sort(len)
    assert (len(words), words[0], words[-1]) == (5, "a", "ccc")
    assert "1: sort(len)" in repr(words)
    assert list(words.shuffle()) != list(words)
    assert list(words.batch(2, collate=list)) == [["a", "e"], ["bb", "dd"], ["ccc"]]


class Counting:
    """A key that writes the process id of each call to a file."""

    def __init__(self, path):
        self.path = str(path)

    def __call__(self, number):
        with open(self.path, "a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        return -number

    def calls(self):
        with open(self.path, encoding="ascii") as file:
            return file.read().split()


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_keys_are_computed_once_in_this_process(tmp_path, start_method, is_stream):
    key = Counting(tmp_path / "calls")
    numbers = Dataset.range(300).sort(key)
    assert not (tmp_path / "calls").exists()
    dataset = numbers.filter(bool) if is_stream else numbers
    for _ in range(2):
        with mpqueue.Loader(dataset, workers=2, start_method=start_method) as loader:
            assert sorted(loader) == list(range(is_stream, 300))
    assert numbers[0] == 299
    assert key.calls() == [str(os.getpid())] * 300


def test_list_that_grows_is_sorted_again():
    numbers = [3, 1]
    dataset = Dataset(numbers).sort(abs)
    assert list(dataset) == [1, 3]
    numbers.append(2)
    assert list(dataset) == [1, 2, 3]


def test_sort_has_the_ids_of_its_samples_and_works_after_pickling():
    dataset = Dataset(["ccc", "a", "bb"]).sort(len).map(lambda word, sample_id: (word, sample_id), with_id=True)
    assert list(dataset) == [("a", 1), ("bb", 2), ("ccc", 0)]
    assert list(pickle.loads(pickle.dumps(dataset))) == list(dataset)


def test_sort_after_a_cache_of_a_shuffle_keeps_the_cached_order(caplog):
    words = Dataset(["aa", "b", "cc", "d"]).shuffle().cache()
    assert list(words.sort(len)) == sorted(words, key=len)
    assert "cache() follows" in caplog.text


def test_wrong_key_raises():
    with pytest.raises(TypeError, match=r"sort\(<lambda>\) must return a key, got None: did you forget `return`"):
        Dataset.range(3).sort(lambda number: None)[0]
    with pytest.raises(TypeError, match="keys must be numbers, strings or tuples that can be compared, got int, str"):
        Dataset([1, "a"]).sort(lambda value: value)[0]


def test_error_of_the_key_names_the_stage_and_is_raised_before_workers_start():
    dataset = Dataset.range(4).sort(lambda number: 1 / (number - 2))
    with pytest.raises(ZeroDivisionError) as caught:
        mpqueue.Loader(dataset, workers=2)
    assert caught.value.__notes__ == ["raised while the keys of stage 1, sort(<lambda>), were computed"]


def test_cache_key_does_not_compute_the_order(tmp_path):
    key = Counting(tmp_path / "calls")
    Dataset.range(5).sort(key).cache(tmp_path / "cache")
    assert not (tmp_path / "calls").exists()
