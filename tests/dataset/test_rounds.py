"""A stream that is iterated over in this process: its elements come round 16 lanes."""

import random

import numpy as np
import pytest
from helpers import pipelines
from helpers.pipelines import Copies, Drawn, Kept, Shards

import mpqueue
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.rounds import LaneRounds
from mpqueue.worker import context
from mpqueue.worker.lanes import LaneRun


def test_elements_come_round_the_lanes_and_one_that_has_ended_gives_nothing():
    dataset = mpqueue.Dataset(Shards(75)).map(Drawn(1)).filter(Kept(2)).flat_map(Copies(12)).shuffle(buffer=3)
    lanes = []
    before = context.of_thread()
    for lane in range(16):
        context.enter_thread(context.WorkerInfo(0, 1, 0, lane=lane, num_lanes=16), is_seed_given=True)
        lanes.append(pipelines.model_of(dataset, LaneRun(lane, 16, 0, 0, context.begin_batch)))
    context.go_back(before)
    rounds = [lane[turn] for turn in range(max(map(len, lanes))) for lane in lanes if turn < len(lane)]
    found, elements = [], iter(dataset)
    while True:
        try:
            found.append(next(elements))
        except StopIteration:
            break
        except LookupError as error:  # in the place of an element
            found.append(pipelines.Failed(type(error).__name__, str(error)))
    assert found == rounds
    assert any(isinstance(one, pipelines.Failed) for one in found)
    assert len({len(lane) for lane in lanes}) > 1


def test_the_order_is_that_of_rounds():
    dataset = mpqueue.Dataset.range(40).filter(lambda value: value % 16 > 1)
    assert list(dataset) == [value for value in range(40) if value % 16 > 1]
    lanes = [[value for value in range(lane, 40, 4) if value % 16 > 1] for lane in range(4)]
    rounds = [lane[turn] for turn in range(10) for lane in lanes if turn < len(lane)]
    assert list(LaneRounds(DatasetLanes(dataset.root), 4)) == rounds


def test_the_callers_own_numbers_stay_what_they_were():
    def drawn(value):
        return value, random.random(), float(np.random.random()), float(mpqueue.rng().random())

    dataset = mpqueue.Dataset.range(20).filter(lambda value: True).map(drawn)
    random.seed(4)
    np.random.seed(4)
    wanted = random.random(), float(np.random.random())
    random.seed(4)
    np.random.seed(4)
    first = list(dataset)
    assert (random.random(), float(np.random.random())) == wanted
    assert list(dataset) == first
    assert len({number for _, number, _, _ in first}) == 20
    assert mpqueue.worker_info() is None
    with pytest.raises(RuntimeError):
        mpqueue.rng()


@pytest.mark.parametrize("kind", [None, {"workers": 0}, {"workers": 2}])
def test_an_iterable_style_dataset_of_torch_takes_its_share_by_lane(kind):
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
