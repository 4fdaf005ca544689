"""The weights of a mixture are changed while it is read."""

import functools
import json

import pytest
from helpers.numbered import iter_after

import mpqueue
from mpqueue import Dataset
from mpqueue.plan.history import At, History
from mpqueue.plan.saved_states import sealed

BEFORE, AFTER, THEN = {"web": 3, "code": 1}, {"web": 1, "code": 3}, {"web": 1, "code": 1}


def mixed():
    parts = {"web": Dataset.range(1000), "code": Dataset.range(1000)}
    return Dataset.mix(parts, weights=BEFORE, stop="never")


# The source, options, the number of batches, and the first samples of two changes. The lanes of a stream are ahead.
KINDS = {
    "by index": (lambda: mixed().batch(8), {}, 48, (72, 208)),
    "a stream": (lambda: mixed().shuffle(buffer=10).batch(4), {"lanes": 4}, 120, (240, 340)),
}


def loader_of(kind, **options):
    make, needed, *_ = KINDS[kind]
    return mpqueue.Loader(make(), **({"seed": 1, "workers": 0} | needed | options))


def run(kind, *, workers=0, changes=((), ()), resumed_after=None, then=2, world=1):
    """Return the ids of the first batches of all ranks, and their last state; ranks take turns."""
    ranks = [loader_of(kind, workers=workers, shard=(rank, world)) for rank in range(world)]
    iterators, found = [iter(loader) for loader in ranks], []
    for number in range(0, KINDS[kind][2], world):
        for loader, batches in zip(ranks, iterators, strict=True):
            next(batches)
            found.append(loader.last.samples)
        for at, change in zip((8, 24), changes, strict=True):
            if change and number <= at < number + world:
                for loader in ranks:
                    assert loader.set_weights(*change) >= 0
        if resumed_after is not None and number <= resumed_after < number + world:
            states = json.loads(json.dumps([loader.state_dict() for loader in ranks]))
            for loader in ranks:
                loader.stop()
            assert world == 1
            ranks = [loader_of(kind, workers=then, seed=9)]
            ranks[0].load_state_dict(states[0])
            iterators = [iter(ranks[0])]
    state = ranks[0].state_dict()
    for loader in ranks:
        loader.stop()
    return found, state


@functools.cache
def changed_twice(kind):
    """Return the batches and the last state of a run with two changes, without workers or a resume."""
    first, second = KINDS[kind][3]
    return run(kind, changes=((AFTER, first), (THEN, second)))


def share_of_web(batches):
    parts = [part for samples in batches for part, _ in samples]
    return parts.count("web") / len(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_continues_with_the_new_weights(kind):
    unchanged, _ = run(kind)
    found, state = changed_twice(kind)
    assert found[:9] == unchanged[:9]
    assert share_of_web(unchanged) > 0.6
    assert share_of_web(found[-12:]) < 0.62
    samples = [sample for batch in found for sample in batch]
    for part in ("web", "code"):
        numbers = sorted(number for name, number in samples if name == part)
        # Of a stream, the buffers hold the missing ones.
        assert len(set(numbers)) == len(numbers)
        if kind == "by index":
            assert numbers == list(range(len(numbers)))
    assert [entry["weights"] for entry in state["history"]] == [AFTER, THEN]
    if kind == "by index":
        assert state["parts"] == {part: sum(name == part for name, _ in samples) for part in ("web", "code")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resumed_after", [5, 9, 40])
def test_changed_mixture_resumes_exactly(kind, resumed_after):
    first, second = KINDS[kind][3]
    changes = ((AFTER, first), (THEN, second))
    found, _ = run(kind, workers=2, changes=changes, resumed_after=resumed_after, then=1)
    assert found == changed_twice(kind)[0]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_get_the_changed_mixture(world):
    changes = ((AFTER,), (THEN,))
    at = -(-9 // world) * world * 8, -(-25 // world) * world * 8
    expected, _ = run("by index", changes=((AFTER, at[0]), (THEN, at[1])))
    found, _ = run("by index", changes=changes, world=world)
    assert found == expected


def test_first_sample_of_an_index_is_the_first_that_no_batch_has():
    with loader_of("by index") as loader:
        batches = iter_after(loader, 3)
        assert loader.set_weights(AFTER) == 24
        with pytest.raises(ValueError, match="at must be at least 24"):
            loader.set_weights(THEN, 23)
        assert loader.set_weights(THEN, 100) == 100
        assert loader.explain(0, 3).samples == (next(batches), loader.last.samples)[1]


def test_first_sample_of_a_stream_is_the_first_that_no_lane_has_taken():
    with loader_of("a stream", lanes=1) as loader:
        assert loader.set_weights(AFTER) == 0
        iter_after(loader, 3)
        first = loader.set_weights(THEN)
        assert first >= 12 + 10  # the samples of the batches, and those in the buffer
        with pytest.raises(ValueError, match=f"at must be at least {first}"):
            loader.set_weights(BEFORE, first - 1)


def finite(**options):
    """Return a loader of a mixture of 12 and 40 samples, whose length depends on the weights."""
    parts = {"web": Dataset.range(12), "code": Dataset.range(100, 140)}
    return mpqueue.Loader(Dataset.mix(parts, weights=THEN), **({"batch_size": 2, "seed": 3} | options))


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "backend": "thread"}, {"workers": 1}], ids=str)
def test_epoch_that_becomes_longer_is_read_to_its_new_end(options):
    """Workers in this process, which keep their source, read its length again as well."""
    with finite(**options) as loader:
        batches = iter(loader)
        read = [next(batches).tolist() for _ in range(4)]
        assert (len(loader), loader.set_weights({"web": 0, "code": 1}), len(loader)) == (12, 8, 22)
        read += [batch.tolist() for batch in batches]
    assert len(read) == 22
    assert sorted(sample for batch in read for sample in batch if sample >= 100) == list(range(100, 140))


@pytest.mark.parametrize("num_read", [6, 16])
def test_state_of_an_epoch_that_became_longer_is_loaded(num_read):
    """The state has the length of the described dataset; its history has the changes."""
    with finite(workers=0) as loader, finite(workers=0, seed=9) as other:
        batches = iter_after(loader, 4)
        loader.set_weights({"web": 0, "code": 1})
        for _ in range(num_read - 4):
            next(batches)
        other.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        assert [batch.tolist() for batch in other] == [batch.tolist() for batch in batches]


def finite_stream(*stages, lanes=4, weights=BEFORE, **options):
    """Return a loader of a stream of 40 and 40 samples with these stages after the mix."""
    dataset = Dataset.mix({"web": Dataset.range(40), "code": Dataset.range(100, 140)}, weights=weights)
    for stage in stages:
        dataset = stage(dataset)
    return mpqueue.Loader(dataset, lanes=lanes, seed=3, workers=0, **options)


def with_buffer(dataset):
    return dataset.shuffle(buffer=3)


def test_first_sample_of_a_stream_follows_the_last_one_that_a_lane_has_taken():
    with finite_stream(with_buffer) as loader:
        assert loader.set_weights(AFTER) == 0
        batches = iter(loader)
        next(batches)  # lane 0 takes three samples into its buffer, and one more: samples 0, 4, 8, 12
        assert loader.set_weights(BEFORE) == 13
        with pytest.raises(ValueError, match="at must be at least 13"):
            loader.set_weights(THEN, 12)


def test_change_between_epochs_of_a_stream_keeps_the_earlier_epochs():
    """Lanes that are not open yet are at the beginning of the next epoch."""
    with finite_stream(with_buffer) as loader:
        seen = [list(loader), list(loader)]
        assert loader.set_weights(AFTER) == 0
        (entry,) = loader.state_dict()["history"]
        assert (entry["epoch"], entry["at"], entry.get("mixture_epoch", entry["epoch"])) == (2, 0, 2)
        seen.append(list(loader))
        for epoch, batch in [(0, 0), (0, 30), (1, 5), (1, 50), (2, 0), (2, 40)]:
            assert loader.compute(epoch, batch) == seen[epoch][batch]


@pytest.mark.parametrize(
    ("sizes", "weights", "stop", "lanes", "stages", "changes"),
    [
        ((12, 17), [1, 1], "first", 2, lambda mix: mix.shuffle(buffer=9).batch(2), {10: [0, 1], 11: [0, 2]}),
        ((5, 6), [0, 1], "all", 4, lambda mix: mix.shuffle(buffer=3), {4: [2, 2], 6: [2, 2]}),
    ],
    ids=["buffer", "all"],
)
def test_lanes_whose_mix_has_ended_stay_as_they_were(sizes, weights, stop, lanes, stages, changes):
    """A buffer that is being emptied, and a short last batch, are not continued with the new weights."""
    first, second = sizes
    mix = Dataset.mix([Dataset.range(first), Dataset.range(100, 100 + second)], weights=weights, stop=stop)
    with mpqueue.Loader(stages(mix), lanes=lanes, seed=3, workers=0) as loader:
        seen = []
        for batch in loader:
            seen.append(repr(batch))
            if len(seen) in changes:
                loader.set_weights(changes[len(seen)])
        assert [repr(loader.compute(0, number)) for number in range(len(seen))] == seen


def test_later_epochs_have_the_new_weights():
    parts = {"web": Dataset.range(100), "code": Dataset.range(100)}
    dataset = Dataset.mix(parts, weights={"web": 1, "code": 0}).batch(10)
    with mpqueue.Loader(dataset, workers=1, seed=1) as loader:
        batches = iter(loader)
        next(batches)
        loader.set_weights({"web": 0, "code": 1})
        rest = [{part for part, _ in loader.last.samples} for _ in batches]
        assert rest == [{"code"}] * len(rest)
        assert len(rest) == 10
        assert {part for _ in loader for part, _ in loader.last.samples} == {"code"}


# `dataset/test_mixtures.py` has all invalid weights and all datasets without one mixture.
@pytest.mark.parametrize(("weights", "error"), [({"web": 1}, ValueError), ({"web": "1", "code": 1}, TypeError)])
def test_weights_must_be_possible(weights, error):
    loader = loader_of("by index")
    with pytest.raises(error):
        loader.set_weights(weights)
    assert "history" not in loader.state_dict()


@pytest.mark.parametrize(
    ("dataset", "message"), [(range(10), "has no mixture"), (mixed().take(100).shuffle().batch(2), "in their order")]
)
def test_mixture_must_exist_and_be_in_order(dataset, message):
    with pytest.raises(ValueError, match=message):
        mpqueue.Loader(dataset).set_weights([1, 1])


def test_rank_of_a_stream_passes_a_number():
    with pytest.raises(ValueError, match="pass at"):
        loader_of("a stream", shard=(0, 2), epoch_batches=4).set_weights(AFTER)


@pytest.mark.parametrize("weights", [{"web": 1, "books": 1}, {"web": 1, "code": "many"}, [1, 2, 3]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_state_with_weights_of_other_parts_does_not_change_a_running_loop(kind, weights):
    with loader_of(kind) as loader, loader_of(kind) as other:
        batches, expected = iter(loader), iter(other)
        assert repr(next(batches)) == repr(next(expected))
        state, before = loader.state_dict(), loader.set_weights(AFTER, at=900)
        assert other.set_weights(AFTER, at=900) == before
        change = History().with_weights(At(0, 2, 1), weights, 900, 0)
        with pytest.raises((TypeError, ValueError), match="mix: "):
            loader.load_state_dict(sealed({**state, "history": change.plain()}))
        for _ in range(12):
            assert repr(next(batches)) == repr(next(expected))
        assert loader.last == other.last
        # Not the whole states: the workers of a stream take snapshots once per second.
        assert loader.state_dict()["history"] == other.state_dict()["history"]


def test_state_with_weights_does_not_change_a_loop_without_a_mixture():
    with mpqueue.Loader(range(8), workers=0) as loader:
        batches = iter(loader)
        next(batches)
        change = History().with_weights(At(0, 1, 1), AFTER, 4, 0)
        with pytest.raises(ValueError, match="has no mixture"):
            loader.load_state_dict(sealed({**loader.state_dict(), "history": change.plain()}))
        assert list(batches) == list(range(1, 8))
