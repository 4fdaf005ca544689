"""The samples of a batch of a stream, and that batch again."""

import itertools
from typing import Any

import pytest
from helpers.drawing import copied, drawing, has_even_index

import mpqueue
from mpqueue import Dataset


def generated():
    """Yield the share of the lane."""
    info = mpqueue.worker_info()
    yield from map(drawing, range(info.shard_id, 60, info.num_shards))


def repeated(sample):
    """Return a sample twice."""
    return [sample, sample]


STREAMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a buffer": (lambda: Dataset.range(90).shuffle(buffer=20).map(drawing).batch(5), {}),
    "a filter": (lambda: Dataset.range(90).map(drawing).filter(has_even_index).shuffle(buffer=7).batch(5), {}),
    "items": (lambda: Dataset.range(40).map(drawing).flat_map(repeated).batch(3), {}),
    "an endless stream": (lambda: Dataset.range(50).map(drawing).shuffle(buffer=7).batch(4), {"epoch_batches": 9}),
    "a generator": (lambda: Dataset(generated).batch(4), {}),
}  # fmt: skip


def loader_of(name, **options):
    make, needed = STREAMS[name]
    return mpqueue.Loader(make(), **({"seed": 3, "lanes": 4, "workers": 0} | needed | options))


def placed(loader, batches):
    """Yield the place, the ids and the contents of each batch."""
    for batch in batches:
        info = loader.last
        yield (info.epoch, info.batch), (info.samples, copied(batch))


def test_function_without_dataset_has_pairs_of_lane_and_number():
    with mpqueue.Loader(generated, batch_size=4, lanes=4, workers=1, seed=1) as loader:
        seen = {}
        for place, (samples, batch) in placed(loader, loader):
            assert [lane + 4 * number for lane, number in samples] == batch["index"]
            seen[place] = samples, batch
        for place, (samples, batch) in seen.items():
            assert loader.explain(*place, run=True).samples == samples
            assert copied(loader.compute(*place)) == batch
        with pytest.raises(ValueError, match=r"mpqueue.Dataset\(function\)"):
            loader.exclude([(0, 1)])
        next(iter(loader))
        with pytest.raises(ValueError, match=r"mpqueue.Dataset\(function\)"):
            loader.exclude([(0, 1)])


@pytest.mark.parametrize("name", ["a filter", "items", "a generator"])
def test_user_code_that_decides_needs_permission(name):
    loader = loader_of(name)
    with pytest.raises(RuntimeError, match="run=True"):
        loader.explain(0, 0)


def test_order_without_decisions_needs_no_user_code():
    def failing(index):
        raise AssertionError("user code must not run")

    loader = mpqueue.Loader(Dataset.range(40).shuffle(buffer=8).map(failing).batch(4), lanes=4, seed=3)
    with mpqueue.Loader(Dataset.range(40).shuffle(buffer=8).batch(4), lanes=4, seed=3, workers=0) as other:
        for number, batch in enumerate(other):
            assert loader.explain(0, number).samples == tuple(batch.tolist())


def test_batch_after_the_end_does_not_exist():
    loader = loader_of("a buffer")
    for call in (loader.explain, loader.compute, loader.seek):
        with pytest.raises(LookupError, match="the stream ends before it"):
            call(0, 100)
    endless = loader_of("an endless stream")
    with pytest.raises(LookupError, match="it has 9 batches"):
        endless.explain(0, 9)


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
@pytest.mark.parametrize("ordered", [True, False])
def test_ranks_that_resume_an_epoch_know_its_batches(ordered):
    with loader_of("a buffer") as first:
        for _, _ in zip(range(5), first, strict=False):  # one virtual shard is ahead of the others
            pass
        state = first.state_dict()
    for rank in range(2):
        infos, loaded = {}, state
        for num_batches in (2, 3):
            loader = loader_of("a buffer", shard=(rank, 2), ordered=ordered)
            loader.load_state_dict(loaded)
            for _, _ in zip(range(num_batches), loader, strict=False):
                infos[loader.last.batch] = loader.last.samples
            loaded = loader.state_dict()
        with loader:
            known_from = 3 if ordered else 5
            assert list(infos) == [3, 4, 5, 6, 7]  # half of 5, rounded up
            for number, samples in infos.items():
                if number >= known_from:
                    assert loader.explain(0, number).samples == samples
            with pytest.raises(LookupError, match="another number of ranks"):
                loader.explain(0, known_from - 1)
            with pytest.raises(LookupError, match="of another rank is unknown"):
                loader.explain(0, 5, rank=1 - rank)


@pytest.mark.filterwarnings("ignore:3 ranks share a stream")
@pytest.mark.parametrize("taken", [4, 5, 7])
def test_last_knows_exclusions_on_a_number_of_ranks_that_does_not_divide_the_batches(taken):
    kept = Dataset.range(48).filter(bool).batch(3)
    with mpqueue.Loader(kept, workers=0, lanes=6) as loader:
        list(itertools.islice(loader, taken))
        loader.exclude(range(24))
        state = loader.state_dict()
    found = []
    for rank in range(3):
        with mpqueue.Loader(kept, workers=0, lanes=6, shard=(rank, 3)) as loader:
            loader.load_state_dict(state)
            for batch in loader:
                assert loader.last.samples == tuple(batch.tolist())
                found += batch.tolist()
    assert found
    assert min(found) >= 24


def test_part_of_a_mixture_is_excluded():
    parts = {"web": Dataset.range(30), "code": Dataset.range(30)}
    dataset = Dataset.mix(parts, weights={"web": 1, "code": 1}).shuffle(buffer=4).batch(5)
    with mpqueue.Loader(dataset, lanes=2, workers=0, seed=1, exclude={"web": range(10)}) as loader:
        samples = [sample for _ in loader for sample in loader.last.samples]
    assert sorted(number for part, number in samples if part == "web") == list(range(10, 30))
    assert sorted(number for part, number in samples if part == "code") == list(range(30))
    with pytest.raises(ValueError, match="no part 'books'"):
        mpqueue.Loader(dataset, exclude={"books": [1]})


def test_zip_of_streams_is_refused():
    pairs = Dataset.zip(Dataset.range(9).shuffle(buffer=2), Dataset.range(9).shuffle(buffer=2))
    loader = mpqueue.Loader(pairs.batch(2), lanes=1)
    with pytest.raises(ValueError, match="paired differently"):
        loader.exclude([(0, 1)])


def is_in_first_half(index):
    """Return whether an index is below 2."""
    return index % 4 < 2


def test_endless_stream_without_elements_has_no_batch():
    """The error names the reason, as no lane has a first element."""
    with (
        mpqueue.Loader(Dataset.range(8).filter(lambda _: False), lanes=4, seed=3, workers=0, epoch_batches=2) as loader,
        pytest.raises(LookupError, match="no virtual shard of this rank has an element"),
    ):
        loader.compute(0, 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_empty_lanes_of_another_rank_are_found(rank):
    """`explain` of the other rank opens its lanes."""
    lanes = {"lanes": 8, "seed": 3, "workers": 0, "epoch_batches": 2}
    stream = Dataset.range(8).filter(is_in_first_half)
    with mpqueue.Loader(stream, shard=(rank, 2), **lanes) as loader:
        seen = [loader.last.samples for _ in range(2) for _ in loader]
    with mpqueue.Loader(stream, shard=(1 - rank, 2), **lanes) as loader:
        told = [loader.explain(epoch, number, rank=rank, run=True).samples for epoch in range(2) for number in range(2)]
    assert told == seen


def test_epochs_of_an_endless_stream_before_a_loop_that_was_left_are_unknown():
    with loader_of("an endless stream", epoch_batches=3) as loader:
        next(iter(loader))
        list(loader)
        with pytest.raises(LookupError, match="only epochs from 2 on are known"):
            loader.seek(1, 0)


def endless_ranks(world, states=None):
    kept = Dataset.range(480).filter(bool).batch(2)
    ranks = [
        mpqueue.Loader(kept, workers=0, lanes=8, epoch_batches=6, seed=3, shard=(rank, world)) for rank in range(world)
    ]
    for each in ranks if states is not None else ():
        each.load_state_dict(states)
    return ranks


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("case", ["whole epochs", "left early", "other ranks"])
def test_batches_of_another_rank_of_an_endless_stream_are_right_or_unknown(case, saved):
    ranks = endless_ranks(2 if case == "other ranks" else 4)
    for each in ranks:
        list(each)
        list(itertools.islice(each, 4) if case != "whole epochs" else each)
    if saved or case == "other ranks":
        ranks = endless_ranks(4, [each.state_dict() for each in ranks])
    infos = {}
    for each in ranks:
        for _ in range(2):
            infos |= {(info.rank, info.epoch, info.batch): info.samples for info in (each.last for _ in each)}
    # A run that resumes in the middle of an epoch continues this epoch.
    is_known = case == "whole epochs" or (case == "left early" and saved)
    for (rank, epoch, batch), samples in infos.items():
        other = ranks[rank - 1]
        if is_known:
            assert other.explain(epoch, batch, rank=rank, run=True).samples == samples
        else:
            with pytest.raises(LookupError, match="of another rank is unknown"):
                other.explain(epoch, batch, rank=rank, run=True)
