"""The samples of a batch of a source with an index, and that batch again."""

import itertools
import json
import pickle
import random

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.drawing_sources import Drawing, copied, drawing, indices
from helpers.engine_parts import sampler_of
from helpers.numbered_batches import iter_after
from helpers.saved_states import OwnGenerator

import mpqueue
from mpqueue.plan.position import cursors

ORDERS = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "a rank": {"shuffle": True, "shard": (1, 3)},
    "a sampler": {"sampler": range(10, 80)},
    "a batch sampler": {"batch_sampler": [[5, 6], [9], [1, 2, 3]], "batch_size": None},
    "a short batch dropped": {"drop_last": True},
}


def loader_of(source=None, **options):
    chosen = {"batch_size": 8, "seed": 3, "workers": 0} | options
    if "batch_sampler" in chosen:
        del chosen["batch_size"]
    return mpqueue.Loader(Drawing() if source is None else source, **chosen)


def epochs(loader, count=2):
    """Return the batches of some epochs by their place."""
    return {(epoch, index): copied(batch) for epoch in range(count) for index, batch in enumerate(loader)}


def damaged(indices):
    """Return a source with samples that raise."""

    def sample(index):
        if index in indices:
            raise OSError("this file is damaged")
        return drawing(index)

    return Computed(sample, 103)


class TestLast:
    def test_has_the_place_the_rank_and_the_seed(self):
        with loader_of(shuffle=True, shard=(1, 3)) as loader:
            steps = [loader.last.step for _ in range(2) for _ in loader]
            info = loader.last
        assert steps == list(range(len(steps)))
        assert (info.epoch, info.rank, info.world_size, info.seed) == (1, 1, 3, 3)

    def test_is_valid_after_stop_and_can_be_pickled(self):
        with loader_of(workers=1) as loader:
            next(iter(loader))
        info = loader.last
        assert info.samples == tuple(range(8))
        assert pickle.loads(pickle.dumps(info)) == info

    def test_step_continues_after_a_resume(self):
        first, second = loader_of(), loader_of(seed=9)
        iter_after(first, 3)
        state = json.loads(json.dumps(first.state_dict()))
        assert state["step"] == 3
        second.load_state_dict(state)
        assert second.last is None
        next(iter(second))
        assert (second.last.batch, second.last.step) == (3, 3)


class TestExplainAndCompute:
    def test_every_rank_is_known_from_one(self):
        loader = loader_of(shuffle=True, shard=(0, 3))
        for rank in range(3):
            with loader_of(shuffle=True, shard=(rank, 3)) as other:
                for index, batch in enumerate(other):
                    assert loader.explain(0, index, rank=rank).samples == indices(batch)
                    assert loader.explain(0, index, rank=rank).rank == rank

    def test_generators_of_the_process_and_the_loop_are_unchanged(self):
        with loader_of() as loader:
            batches = iter(loader)
            next(batches)
            states = random.getstate(), np.random.get_state()[1].tolist()
            loader.compute(1, 3)
            loader.explain(1, 3)
            assert states == (random.getstate(), np.random.get_state()[1].tolist())
            assert (loader.epoch, loader.last.batch) == (0, 0)
            assert indices(next(batches)) == tuple(range(8, 16))

    def test_skipped_samples_are_missing_in_a_computed_batch(self):
        loader = loader_of(damaged(range(12)), on_error="skip")
        assert indices(loader.compute(0, 1)) == (12, 13, 14, 15)
        with pytest.raises(LookupError, match="is empty"):
            loader.compute(0, 0)
        assert loader.statistics().skipped == 0

    def test_sampler_that_draws_is_known_in_two_epochs(self):
        with loader_of(sampler=OwnGenerator(random.Random(1))) as loader:
            seen = epochs(loader, 3)
            state = sampler_of(loader).generator.getstate()
            for epoch, number in [(1, 0), (1, 4), (2, 2)]:
                assert loader.explain(epoch, number).samples == tuple(seen[epoch, number]["index"])
            for epoch in (0, 3):
                with pytest.raises(LookupError, match="draws random numbers"):
                    loader.explain(epoch, 0)
            assert sampler_of(loader).generator.getstate() == state

    def test_epoch_of_a_sampler_that_cannot_repeat_it_is_unknown(self):
        turns = itertools.count()

        class Rotating:
            def __iter__(self):
                turn = next(turns)
                return iter([(index + turn) % 40 for index in range(40)])

        with loader_of(sampler=Rotating()) as loader:
            iter_after(loader, 3)
            for call in (loader.explain, loader.compute, loader.seek):
                for number in (0, 1, 4):
                    with pytest.raises(LookupError, match="it returned other indices"):
                        call(0, number)

    def test_sampler_with_set_epoch_is_known_in_any_epoch(self):
        class Rotating:
            epoch = 0

            def set_epoch(self, epoch):
                self.epoch = epoch

            def __iter__(self):
                return iter([(index + self.epoch) % 16 for index in range(16)])

        sampler = Rotating()
        with loader_of(sampler=sampler) as loader:
            next(iter(loader))
            assert loader.explain(5, 0).samples == tuple(range(5, 13))
            assert sampler.epoch == 0

    def test_source_that_changes_is_known_in_the_current_epoch(self):
        class Changing(Drawing):
            def on_epoch_end(self):
                self.length -= 1

        with loader_of(Changing()) as loader:
            assert loader.explain(0, 3).samples == tuple(range(24, 32))
            with pytest.raises(LookupError, match="on_epoch_end"):
                loader.compute(1, 0)


class TestSeek:
    def test_nothing_before_the_place_is_computed(self):
        loader = loader_of(damaged(range(80)))
        loader.seek(7, 10)
        assert indices(next(iter(loader))) == tuple(range(80, 88))

    def test_state_between_seek_and_loop_is_of_the_place(self):
        loader, other = loader_of(), loader_of(seed=5)
        loader.seek(1, 4)
        state = json.loads(json.dumps(loader.state_dict()))
        assert state["history"] == [{"kind": "seek", "epoch": 0, "batch": 0, "world_size": 1, "to": [1, 4]}]
        other.load_state_dict(state)
        assert (other.epoch, indices(next(iter(other)))) == (1, tuple(range(32, 40)))


class TestExclude:
    def test_samples_are_not_asked_or_counted(self):
        with loader_of(damaged(range(6)), exclude=range(6), on_error="skip") as loader:
            assert [indices(batch) for batch in itertools.islice(loader, 2)] == [(6, 7), tuple(range(8, 16))]
            assert loader.statistics().skipped == 0
            assert loader.last.skipped == ()

    def test_state_has_all_exclusions_and_ranges_remain_ranges(self):
        loader, other = loader_of(), loader_of(seed=8)
        next(iter(loader))
        for ids in ([12, 9], range(50, 60), [70, 12]):
            loader.exclude(ids)
        state = json.loads(json.dumps(loader.state_dict()))
        exclusion = {"kind": "exclude", "epoch": 0, "batch": 1, "world_size": 1}
        assert state["history"] == [exclusion | {"ids": ids} for ids in ([9, 12], [{"range": [50, 60, 1]}], [12, 70])]
        other.load_state_dict(state)
        seen = [sample for batch in other for sample in indices(batch)]
        assert seen == [sample for sample in range(8, 103) if sample not in {9, 12, 70, *range(50, 60)}]

    def test_source_that_grows_loses_no_other_samples(self):
        source = list(range(40))
        with loader_of(source, batch_size=4, shuffle=True, workers=2, exclude=[3]) as loader:
            for _ in range(2):
                list(loader)
            source.extend(range(40, 60))  # batches of the next epoch were dealt with the old length
            seen = []
            for batch in loader:
                assert loader.last.samples == tuple(batch.tolist())
                seen += batch.tolist()
        assert sorted(seen) == [index for index in range(60) if index != 3]

    def test_million_ids_take_little_time_and_are_found(self):
        loader = loader_of(range(2_000_000), batch_size=4)
        loader.exclude(np.arange(0, 2_000_000, 2))
        assert [batch.tolist() for batch in itertools.islice(loader, 2)] == [[1, 3], [5, 7]]

    def test_states_with_unlike_histories_are_refused(self):
        one, two = loader_of(), loader_of()
        two.exclude([4])
        with pytest.raises(ValueError, match="different histories"):
            one.load_state_dict([one.state_dict(), two.state_dict()])


class TestBadInput:
    @pytest.mark.parametrize("point", [(0.0, 1), (True, 0), ("0", 1), (0, None), (-1, 0), (0, -1)])
    def test_place_must_consist_of_integers_from_0(self, point):
        loader = loader_of()
        error, text = (ValueError, "must be 0 or more") if -1 in point else (TypeError, "must be an integer")
        for call in (loader.explain, loader.compute, loader.seek):
            with pytest.raises(error, match=text):
                call(*point)

    @pytest.mark.parametrize("order", ORDERS)
    def test_batch_after_the_end_does_not_exist(self, order):
        loader = loader_of(**ORDERS[order])
        for call in (loader.explain, loader.compute, loader.seek):
            with pytest.raises(LookupError):
                call(0, 1000)
        assert loader.state_dict()["step"] == 0
        assert "history" not in loader.state_dict()

    def test_rank_must_exist(self):
        loader = loader_of(shard=(0, 2))
        with pytest.raises(ValueError, match="number of ranks, which is 2"):
            loader.explain(0, 0, rank=2)
        with pytest.raises(TypeError, match="rank must be an integer"):
            loader.explain(0, 0, rank=1.0)

    @pytest.mark.parametrize("ids", [3, "ab", b"ab", 2.5, [1.5], [True], np.array([1.0]), None, [None]])
    def test_ids_must_be_ids(self, ids):
        loader = loader_of()
        with pytest.raises(TypeError):
            loader.exclude(ids)
        if ids is not None:
            with pytest.raises(TypeError):
                loader_of(exclude=ids)
        assert "history" not in loader.state_dict()

    @pytest.mark.parametrize("ids", [[-1], range(-3, 3), [103], range(50, 200), {"web": [1]}])
    def test_ids_must_exist(self, ids):
        loader = loader_of()
        with pytest.raises(ValueError):
            loader.exclude(ids)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_are_known_if_the_source_grows_within_an_epoch(self, workers):
        source = list(range(40))
        with mpqueue.Loader(source, batch_size=4, shuffle=True, seed=1, workers=workers) as loader:
            for index, batch in enumerate(loader):
                if index == 1:
                    source.append(40)
                if index == 5:
                    with pytest.raises(RuntimeError, match="length of list has changed in this epoch"):
                        loader.exclude([3])
                if index >= 1:
                    assert loader.last.samples == tuple(batch.tolist())
            loader.exclude([3])
            assert sum(len(batch) for batch in loader) == 40
            assert loader.last.samples == tuple(loader.compute(1, loader.last.batch).tolist())

    @pytest.mark.parametrize("workers", [0, 2])
    def test_shuffled_items_are_known_if_the_source_grows_within_an_epoch(self, workers):
        source, found = list(range(12)), []
        with mpqueue.Loader(source, shuffle=True, seed=1, workers=workers) as loader:
            for item in loader:
                found.append(item)
                if len(found) == 2:
                    source.append(12)
            assert [loader.explain(0, number).samples for number in range(12)] == [(item,) for item in found]
            assert [loader.compute(0, number) for number in range(12)] == found
            with pytest.raises(LookupError, match="epoch 0 has no batch 12: its number of batches is 12"):
                loader.explain(0, 12)
            loader.seek(0, 12)  # the epoch begins again, with the length that the source has now
            assert len(list(loader)) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_endless_dataset_without_samples_raises_an_error(workers, monkeypatch):
    monkeypatch.setattr(cursors, "_LEAST_EMPTY", 100)
    source = mpqueue.Dataset.range(60).repeat().batch(2)
    with mpqueue.Loader(source, workers=workers, exclude=range(59)) as loader:
        batches = iter(loader)
        assert [next(batches).tolist() for _ in range(3)] == [[59]] * 3
        loader.exclude([59])
        for _ in range(2):
            with pytest.raises(RuntimeError, match="all are excluded: the source is endless"):
                next(batches)


def test_place_is_that_of_the_next_batch_of_this_rank():
    with mpqueue.Loader(range(60), batch_size=2, shard=(1, 3), workers=0, shuffle=True) as loader:
        assert loader.place == (0, 0)
        batches = iter(loader)
        for number in range(10):
            expected = loader.compute(*loader.place).tolist()
            assert (loader.place, next(batches).tolist()) == ((0, number), expected)
        assert loader.place == (1, 0)
        loader.seek(4, 7)
        assert loader.place == (4, 7)
