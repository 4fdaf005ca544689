"""`window`: lists of neighbours, by index and in a stream. The model has exclusion, resumes and errors."""

import json

import pytest
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset


def windows(length, *arguments, **options):
    return list(Dataset.range(length).window(*arguments, **options))


@pytest.mark.sample(11)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (3, 3), (9, 4)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_windows_begin_at_multiples_of_the_stride(length, size, stride, drop_last):
    starts = range(0, length, stride)
    wanted = [list(range(start, min(start + size, length))) for start in starts]
    wanted = [window for window in wanted if len(window) == size or not drop_last]
    dataset = Dataset.range(length).window(size, stride, drop_last=drop_last)
    assert list(dataset) == wanted
    assert len(dataset) == len(wanted)
    stream = Dataset.range(length).filter(lambda _: True).window(size, stride, drop_last=drop_last)
    with mpqueue.Loader(stream, lanes=1, workers=0) as loader:
        assert not wanted or list(loader) == wanted  # a loader of no batches is refused


def test_windows_do_not_overlap_by_default():
    assert windows(5, 2) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [((0,), ValueError, "size"), ((3, 0), ValueError, "stride"), ((3, 4), ValueError, "stride must be at most size=3"),
     ((2.5,), TypeError, "size"), ((3, "1"), TypeError, "stride")],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=f"window: .*{message}"):
        Dataset.range(9).window(*arguments)


def drawn(window):
    return window, int(mpqueue.rng().integers(1 << 30))


def test_window_of_a_stream_keeps_the_random_numbers_of_its_first_element():
    dataset = Dataset.range(60).filter(lambda _: True).window(3, 1).map(drawn)
    whole, rest = (batches_of(dataset, lanes=3, workers=0, seed=1, exclude=excluded) for excluded in ([], [20, 33]))
    numbers = {window[0]: number for window, number in whole if window[0] not in {20, 33}}
    assert {window[0]: number for window, number in rest} == numbers
    assert any(window not in [other for other, _ in whole] for window, _ in rest)


def test_stream_resumes_in_the_middle_of_overlapping_windows():
    dataset = Dataset.range(90).filter(lambda number: number % 4 > 0).window(4, 2).shuffle(buffer=6)
    with mpqueue.Loader(dataset, lanes=3, workers=2, seed=1) as loader:
        batches = iter(loader)
        seen = [next(batches) for _ in range(12)]
        ids = loader.last.samples
        state = json.dumps(loader.state_dict())
        rest = list(batches)
    assert list(ids) == seen[-1]
    assert batches_of(dataset, lanes=3, workers=0, state=json.loads(state)) == rest
