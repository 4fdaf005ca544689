"""torchdata's `StatefulDataLoader` under `mpqueue.torch.install`: mpqueue's workers, and mpqueue's state."""

import itertools
import pickle

import pytest
import torch
from helpers.footprint import children_of
from helpers.torch_batches import Noisy, continued
from torch.utils.data import RandomSampler

import mpqueue.torch

pytest.importorskip("torchdata.stateful_dataloader")
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler as OwnRandomSampler

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def _loader(workers, **options):
    generator = torch.Generator().manual_seed(5)
    return StatefulDataLoader(Noisy(), 2, shuffle=True, num_workers=workers, generator=generator, **options)


def _lists(batches):
    return [(indices.tolist(), noise.tolist()) for indices, noise in batches]


def test_state_before_the_first_batch_starts_no_workers():
    """As Accelerate does when it makes a loader."""
    with mpqueue.torch.install():
        loader, before = _loader(1), children_of("self")
        loader.load_state_dict(loader.state_dict())
        assert children_of("self") == before
        loader.load_state_dict({})
        assert len(_lists(loader)) == 6


def test_methods_of_torchdata_are_restored_on_exit():
    names = ("_get_iterator", "__iter__", "state_dict", "load_state_dict")
    own = {name: vars(StatefulDataLoader)[name] for name in names}
    with mpqueue.torch.install():
        assert all(vars(StatefulDataLoader)[name] is not own[name] for name in names)
        assert vars(StatefulDataLoader)["statistics"]
    assert all(vars(StatefulDataLoader)[name] is own[name] for name in names)
    assert "statistics" not in vars(StatefulDataLoader)
    loader = _loader(0)
    next(iter(loader))
    assert loader.state_dict()["_num_yielded"] == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_state_of_torchdata_is_rejected_with_the_remedy(workers):
    loader = _loader(workers)
    next(iter(loader))
    state = loader.state_dict()
    del loader
    with mpqueue.torch.install(), pytest.raises(ValueError, match="state that torchdata saved without mpqueue"):
        _loader(workers).load_state_dict(state)


ORDERS = {
    "shuffle": lambda _: {"shuffle": True},
    "lazy": lambda generator: {"sampler": RandomSampler(Noisy(), generator=generator)},
    "lazy, in parts": lambda generator: {"sampler": RandomSampler(Noisy(), num_samples=80, generator=generator)},
    "at once, in parts": lambda generator: {"sampler": OwnRandomSampler(Noisy(), True, 80, generator)},
}


@pytest.mark.parametrize("taken", [0, 1, -2, None])
@pytest.mark.parametrize("order", ORDERS)
def test_sampler_draws_from_the_generator_of_the_loader_as_without_a_resume(order, taken):
    """Before the seed of the workers or after it, at once or in parts."""

    def make():
        generator = torch.Generator().manual_seed(5)
        return StatefulDataLoader(Noisy(), 2, generator=generator, **ORDERS[order](generator))

    def passes(*loops):
        return [[indices.tolist() for indices, _ in loop] for loop in loops]

    with mpqueue.torch.install():
        loader = make()
        batches = iter(loader)
        seen = passes(batches if taken is None else itertools.islice(batches, taken % len(loader)))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        other = continued(make(), state)
        rest = passes(*[loader] * 2 if taken is None else [batches, loader])
        assert passes(other, other) == rest
        if taken == 1:
            again = make()
            [whole] = passes(again)
            assert [list(again.explain(0, batch).samples) for batch in range(len(whole))] == whole == seen[0] + rest[0]
