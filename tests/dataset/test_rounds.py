"""Iteration over a stream in this process: elements alternate between 16 lanes."""

import random
import signal

import numpy as np
import pytest
from helpers.injected_exceptions import Strike, Struck
from helpers.loader_runs import batches_of
from helpers.sweeps import step_of
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
        assert batches_of(dataset, seed=0, **kind) == wanted


@pytest.mark.parametrize(("kind", "step"), [("stream", 17), ("indexed", 3)])  # a stream has about 600 points
def test_interrupt_at_any_point_neither_loses_nor_repeats_elements(kind, step):
    dataset = mpqueue.Dataset.range(9).shuffle().map(Drawing(1))
    if kind == "stream":
        dataset = dataset.filter(Kept(2)).shuffle(buffer=2)
    wanted, position, is_struck = list(dataset), 0, True
    while is_struck:
        position, elements, found, is_struck = position + step_of(step), iter(dataset), [], False
        try:
            with Strike(position):
                for _ in range(5):
                    found += [next(elements)]
        except Struck:
            is_struck = True
        found += elements  # begins with the interrupted element
        assert (position, found, list(dataset)) == (position, wanted, wanted)
        assert mpqueue.worker_info() is None
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
