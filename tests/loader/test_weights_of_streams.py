"""New weights in a stream begin with the next pick of each virtual shard, whatever was computed ahead and by whom."""

import json

import pytest
from model.program import kill

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(1)

CHANGES = {5: {"web": 1, "code": 7}, 6: {"web": 0, "code": 1}, 11: {"web": 7, "code": 1}}


def is_kept(number):
    return number % 3 > 0


def same(number):
    return number


def doubled(number):
    return [number, -number]


def total(state, number):
    return state + number, (number, state)


def length(number):
    return number % 7


PIPELINES = {
    "a filter and a buffer": lambda mix: mix.filter(is_kept).shuffle(buffer=10).batch(4),
    "threads before a batch": lambda mix: mix.map(same, threads=2).filter(is_kept, threads=2).batch(4),
    "threads after a batch": lambda mix: mix.filter(is_kept).batch(3).map(same, threads=2),
    "items": lambda mix: mix.flat_map(doubled).batch(4),
    "a state": lambda mix: mix.map(same).scan(0, total).batch(4),
    "buckets": lambda mix: mix.filter(is_kept).bucket(length, [3], batch_sizes=[3, 4]),
    "rows": lambda mix: mix.filter(is_kept).map(lambda number: [number] * (1 + number % 5)).pack(8).batch(2),
}
PARTS = {"indexed parts": lambda part: part, "streams": lambda part: part.filter(is_kept)}


def loader_of(pipeline, parts="indexed parts", **options):
    web, code = (PARTS[parts](Dataset.range(first, first + 5000)) for first in (0, 9000))
    mix = Dataset.mix({"web": web, "code": code}, {"web": 3, "code": 1})
    given = {"lanes": 4, "seed": 3, "workers": 0, "backend": "thread", "epoch_batches": 40}
    return mpqueue.Loader(PIPELINES[pipeline](mix), **(given | options))


def taken(ranks, first, end, changes=CHANGES, kills_at=None):
    """Return the batches of these steps of all ranks. Their weights change after the same steps."""
    loops, found = [iter(each) for each in ranks], []
    for number in range(first, end):
        if number == kills_at:
            kill(0)
        for each in ranks:
            if number in changes:
                assert each.set_weights(changes[number]) is None
        for loop, each in zip(loops, ranks, strict=True):
            found.append((repr(next(loop)), each.last.samples))
    return found


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_batches_do_not_depend_on_workers_or_on_a_resume(pipeline, parts):
    with loader_of(pipeline, parts) as loader:
        expected = taken([loader], 0, 18)
    for workers, next_workers in ((1, 3), (3, 0)):
        for end in (4, 5, 8):
            with loader_of(pipeline, parts, workers=workers) as loader:
                found = taken([loader], 0, end)
                state = json.loads(json.dumps(loader.state_dict()))
            with loader_of(pipeline, parts, workers=next_workers) as loader:
                loader.load_state_dict(state)
                found += taken([loader], end, 18)
            assert found == expected


def test_batches_do_not_depend_on_processes_or_on_a_kill():
    with loader_of("a filter and a buffer") as loader:
        expected = taken([loader], 0, 18)
    with loader_of("a filter and a buffer", workers=2, backend="process") as loader:
        assert taken([loader], 0, 18, kills_at=7) == expected
        assert loader.statistics().deaths == 1


def test_ranks_change_the_weights_after_the_same_step():
    pipeline, changes = "a filter and a buffer", {2 * number: weights for number, weights in CHANGES.items()}
    with loader_of(pipeline) as loader:
        expected = taken([loader], 0, 30, changes)
    ranks = [loader_of(pipeline, shard=(rank, 2), epoch_batches=20) for rank in range(2)]
    found = taken(ranks, 0, 8)
    states = json.loads(json.dumps([each.state_dict() for each in ranks]))
    with loader_of(pipeline, workers=3) as loader:
        loader.load_state_dict(states)
        assert found + taken([loader], 16, 30, changes) == expected


def test_next_batch_has_the_new_weights_if_nothing_else_waits():
    mix = Dataset.mix({"web": Dataset.range(500), "code": Dataset.range(500)}, {"web": 1, "code": 0})
    with mpqueue.Loader(mix.filter(is_kept).batch(4), lanes=2, workers=0) as loader:
        found = taken([loader], 0, 8, {5: {"web": 0, "code": 1}})
    assert [{part for part, _ in samples} for _, samples in found] == [{"web"}] * 5 + [{"code"}] * 3
