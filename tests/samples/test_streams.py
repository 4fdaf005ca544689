"""`batch_size` for generators: each worker groups its elements, and ranks count in `worker_info`."""

import itertools

import numpy as np
import pytest
from helpers.loader_runs import batches_of

import mpqueue

pytestmark = pytest.mark.sample(2)


def sharded():
    info = mpqueue.worker_info()
    yield from range(info.shard_id, 20, info.num_shards)


def drawing():
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 20, info.num_shards):
        yield number, mpqueue.rng().random()


@pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (2, "process"), (2, "thread")])
def test_consecutive_elements_form_a_batch(workers, backend):
    with mpqueue.Loader(sharded, batch_size=3, workers=workers, backend=backend) as loader:
        first, second = ([batch.tolist() for batch in loader] for _ in range(2))
    assert first == second
    assert sorted(itertools.chain(*first)) == list(range(20))
    assert {len(batch) for batch in first} == ({3, 2} if workers == 0 else {3, 1})


def test_short_last_batch_of_worker_is_dropped():
    with mpqueue.Loader(sharded, batch_size=3, workers=2, drop_last=True) as loader:
        assert {len(batch) for batch in loader} == {3}


def test_random_numbers_of_elements_do_not_depend_on_batch_size():
    def draws(batch_size):
        batches = batches_of(drawing, batch_size=batch_size, workers=2, seed=4)
        return {number: draw for batch in batches for number, draw in zip(*batch, strict=True)}

    assert draws(1) == draws(4)
    assert len(set(draws(4).values())) == 20


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
def test_worker_info_counts_workers_of_all_ranks():
    found = []
    for rank in range(2):
        with mpqueue.Loader(sharded, batch_size=2, workers=2, shard=(rank, 2)) as loader:
            found += [batch.tolist() for batch in loader]
    assert sorted(itertools.chain(*found)) == list(range(20))


def test_state_resumes_within_epoch():
    with mpqueue.Loader(drawing, batch_size=3, workers=2, seed=4) as loader:
        stream = iter(loader)
        next(stream)
        state = loader.state_dict()
        rest = [batch[1].tolist() for batch in stream]
    with mpqueue.Loader(drawing, batch_size=3, workers=2) as loader:
        loader.load_state_dict(state)
        assert [batch[1].tolist() for batch in loader] == rest


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
def test_state_of_other_rank_raises():
    state = mpqueue.Loader(sharded, workers=1, shard=(0, 2)).state_dict()
    with pytest.raises(ValueError, match=r"\(rank 1 of 2, with 1 worker\), got a state of rank 0 of 2"):
        mpqueue.Loader(sharded, workers=1, shard=(1, 2)).load_state_dict(state)


def test_error_ends_generator_and_counts_as_skipped():
    def breaks():
        yield from (np.array(0), np.array(1), np.array(2))
        raise ValueError("broken")

    with mpqueue.Loader(breaks, batch_size=2, workers=1, on_error="skip") as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1], [2]]
        assert loader.statistics().skipped == 1


def test_threads_that_share_iterator_take_whole_batches():
    batches = batches_of(iter(range(40)), batch_size=4, workers=3, backend="thread")
    assert sorted(batches) == [list(range(first, first + 4)) for first in range(0, 40, 4)]
