"""Datasets without a loader: lanes, direct access and iteration equal the model, and survive interrupts."""

import functools
import itertools
import json
import pickle
import random
import signal

import numpy as np
import pytest
from helpers.injected_exceptions import Strike, Struck
from helpers.loader_runs import batches_of
from helpers.pipelines import Failed, drawn, expected, lane_of, made, opened, outcomes_of, rest_of
from helpers.sweeps import part_of, step_of
from model.elements import Run
from model.functions import Drawing, Kept
from model.orders import Setup, batches
from model.pipelines import stage_of
from model.program import plain

import mpqueue

# Some of the random streams are empty.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the stream of .* (is empty|returned no batches)"),
    pytest.mark.usefixtures("only_exceptions"),
]

MOST = 60  # elements that are compared, because a dataset may be endless


@pytest.mark.sample(1)
@pytest.mark.parametrize("first", range(0, 400, 50))
def test_lane_equals_the_model_across_saves(first):
    """In blocks, as a later stage reads them, and element by element; also in pipelines of many stages."""
    for number in range(first, first + part_of(50)):
        chosen = random.Random(number)
        data, run = drawn(chosen, 8), (chosen.randrange(4), 4, chosen.randrange(1 << 63), chosen.randrange(4))
        endless, dataset, found = {"endless": chosen.random() < 0.3}, made(data), []
        lane = opened(dataset, *run, **endless)
        for _ in range(chosen.randrange(4)):
            found += rest_of(lane, min(chosen.randrange(15), MOST - len(found)))
            state = pickle.loads(pickle.dumps(lane.save()))
            state = json.loads(json.dumps(state)) if chosen.random() < 0.5 else state
            lane = opened(dataset, *run, state=state, **endless)
        found += rest_of(lane, MOST - len(found))
        assert (number, plain(found)) == (number, expected(lane_of(data, *run, **endless), MOST))


def test_each_stage_of_a_lane_has_one_row_of_counts():
    for number in range(part_of(100)):
        dataset = made(drawn(random.Random(number), 5))
        lane = opened(dataset, 1, 2)
        outcomes = rest_of(lane, MOST)
        rows = lane.counts()
        names = [row[0] for row in rows]
        assert sorted(set(names)) == sorted(names)
        of_last = next(row for row in rows if row[0] == f"{dataset.root.stage_index}: {dataset.root.line()}")
        assert of_last[2] >= sum(not isinstance(one, Failed) for one in outcomes)


@pytest.mark.sample(1)
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_iteration_without_a_loader_equals_the_model(first):
    """A stream alternates between 16 lanes."""
    for number in range(first, first + part_of(50)):
        data = drawn(random.Random(number), 5)
        wanted = [each.value for each in itertools.islice(batches(Setup(stage_of(data), lanes=16), 0, 0), MOST)]
        assert (number, plain(outcomes_of(iter(made(data)).__next__, MOST))) == (number, plain(wanted))


def test_direct_access_equals_the_model():
    for number in range(part_of(200)):
        chosen = random.Random(number)
        data = drawn(chosen, 5, streams=False)
        dataset, stage = made(data), stage_of(data)
        length = stage.length(Run(0, 0))
        if length is not None:
            assert len(dataset) == length
        positions = [chosen.randrange(MOST if length is None else length) for _ in range(9 if length != 0 else 0)]
        wanted = [one for at in positions for one in outcomes_of(stage.element(at, Run(0, 0)).value, 1)]
        found = [one for at in positions for one in outcomes_of(functools.partial(dataset.__getitem__, at), 1)]
        assert (number, plain(found)) == (number, plain(wanted))
        if not any(isinstance(one, Failed) for one in wanted):
            assert plain(dataset.__getitems__(positions)) == plain(wanted)


# -- Iteration over a stream in this process


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
