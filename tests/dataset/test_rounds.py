"""Iteration over a stream in this process: elements alternate between 16 lanes."""

import random
import signal

import numpy as np
import pytest
from helpers.injected_exceptions import Strike, Struck
from model.functions import Drawing, Kept

import mpqueue


def test_functions_see_one_worker_and_their_lane():
    infos = list(mpqueue.Dataset.range(32).map(lambda _: mpqueue.worker_info()).filter(lambda info: info is not None))
    assert {(info.id, info.num_workers, info.num_shards) for info in infos} == {(0, 1, 16)}
    assert [info.shard_id for info in infos] == [*range(16), *range(16)]


def test_random_numbers_of_the_caller_are_unchanged():
    def drawn(value):
        return value, random.random(), float(np.random.random()), float(mpqueue.rng().random())

    dataset = mpqueue.Dataset.range(20).filter(lambda value: True).map(drawn)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = list(dataset)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert list(dataset) == first
    assert len({number for _, number, _, _ in first}) == 20
    assert mpqueue.worker_info() is None
    with pytest.raises(RuntimeError):
        mpqueue.rng()


@pytest.mark.parametrize("kind", [None, {"workers": 0}, {"workers": 2, "start_method": "fork"}])
def test_torch_iterable_dataset_selects_its_share_by_lane(kind):
    torch = pytest.importorskip("torch")

    class Numbers(torch.utils.data.IterableDataset):
        def __iter__(self):
            info = torch.utils.data.get_worker_info()
            yield from range(info.id, 50, info.num_workers)

    dataset = mpqueue.Dataset(Numbers()).filter(lambda value: value % 2 == 0).shuffle(buffer=3)
    wanted = list(dataset)
    assert sorted(wanted) == list(range(0, 50, 2))
    if kind is not None:
        with mpqueue.Loader(dataset, seed=0, **kind) as loader:
            assert list(loader) == wanted


STREAM = mpqueue.Dataset.range(90).map(Drawing(1)).filter(Kept(2)).flat_map(lambda pair: [pair, pair]).shuffle(buffer=3)
INDEXED = mpqueue.Dataset.range(60).shuffle().map(Drawing(1))


def struck_at(elements, positions):
    """Return the elements of an iterator that is interrupted at some points of mpqueue's code and continued, with the
    count.
    """
    found, num_struck = [], 0
    for position in positions:
        try:
            with Strike(position):
                for _ in range(5):  # request an interrupted element again
                    found += [next(elements)]
        except Struck:
            num_struck += 1
    return found + list(elements), num_struck


@pytest.mark.parametrize("dataset", [STREAM, INDEXED], ids=["stream", "indexed"])
@pytest.mark.parametrize("seed", range(3))
def test_continuing_after_an_interrupt_neither_loses_nor_repeats_elements(dataset, seed):
    chosen = random.Random(seed)
    found, num_struck = struck_at(iter(dataset), [chosen.randrange(400) for _ in range(8)])
    assert found == list(dataset)
    assert num_struck > 2


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "step"), [("stream", 17), ("indexed", 3)])  # a stream has about 600 points
def test_interrupt_at_any_point_does_not_change_later_elements(kind, step):
    dataset = mpqueue.Dataset.range(6).shuffle().map(Drawing(1))
    if kind == "stream":
        dataset = dataset.filter(Kept(2)).shuffle(buffer=2)
    wanted, position, is_struck = list(dataset), 0, True
    while is_struck:
        position += step
        found, num_struck = struck_at(iter(dataset), [position])
        assert (position, found, list(dataset)) == (position, wanted, wanted)
        assert mpqueue.worker_info() is None
        is_struck = bool(num_struck)
    assert position > 100


def test_ctrl_c_in_a_user_function_takes_no_element():
    struck = []

    def interrupted(value):
        if value == 33 and len(struck) < 2:
            struck.append(value)
            signal.raise_signal(signal.SIGINT)
        return value

    for dataset in (mpqueue.Dataset.range(50), mpqueue.Dataset.range(50).filter(lambda value: True)):
        struck.clear()
        elements, found = iter(dataset.map(interrupted)), []
        for _ in range(3):
            try:
                for value in elements:
                    found.append(value)
            except KeyboardInterrupt:
                continue
        assert found == list(range(50))
        assert len(struck) == 2
