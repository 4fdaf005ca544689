"""`window`: lists of neighbours, by index and in a stream. The model has exclusion, resumes and errors."""

import pytest

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
