"""The batches of an epoch that other ranks began: their numbers, and questions about them."""

import itertools
import random

import pytest

import mpqueue

pytestmark = pytest.mark.sample(2)


class Drawn:
    """A sampler that draws another order in each epoch."""

    def __init__(self):
        self.generator = random.Random(7)

    def __len__(self):
        return 45

    def __iter__(self):
        return iter(self.generator.sample(range(90), 45))


ORDERS = {
    "shuffled": lambda: {"shuffle": True, "batch_size": 2},
    "items": lambda: {"shuffle": True},
    "a short round dropped": lambda: {"drop_last": True, "batch_size": 2},
    "a sampler": lambda: {"sampler": [*range(89, 44, -1)], "batch_size": 1},
    "a batch sampler": lambda: {"batch_sampler": [[at, at + 45] for at in range(45)]},
    "a drawn order": lambda: {"sampler": Drawn(), "batch_size": 1},
}


def ranks_of(order, world, state=None):
    made = [
        mpqueue.Loader(list(range(90)), workers=0, seed=3, shard=(rank, world), **ORDERS[order]())
        for rank in range(world)
    ]
    for loader in made if state is not None else ():
        loader.load_state_dict(state)
    return made


def seen(loader, loop=None, count=None):
    """Return the samples of the next batches of a loop by their place; `explain` knows each of them."""
    found = {}
    for _ in itertools.islice(iter(loader) if loop is None else loop, count):
        last = loader.last
        found[last.epoch, last.batch] = last.samples
        assert loader.explain(last.epoch, last.batch).samples == last.samples
    return found


@pytest.mark.parametrize("worlds", [(4, 2), (3, 2), (4, 2, 4), (2, 3, 3, 2), (3, 1, 2), (2, 3, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize("order", ORDERS)
def test_batches_are_known_after_resumes_and_seeks(order, worlds):
    returned, state = [], None
    for world in worlds:
        ranks = ranks_of(order, world, state)
        firsts = {loader.place for loader in ranks}
        assert len(firsts) == 1  # the ranks are at the same number
        if state is None:
            for loader in ranks:
                list(loader)
        loops = [iter(loader) for loader in ranks]
        found = [seen(loader, loop, 2) for loader, loop in zip(ranks, loops, strict=True)]
        returned += [each for of_rank in found for each in of_rank.values()]
        (state, *others) = [loader.state_dict() for loader in ranks]
        assert all(other == state for other in others)
    began = _began(worlds)
    known_from = -(-began // worlds[-1]) if worlds[-1] > 1 else 0
    for loader, loop, of_rank in zip(ranks, loops, found, strict=True):
        of_rank |= seen(loader, loop)
        # Other ranks returned the earlier batches.
        if known_from:
            for ask in (loader.explain, loader.compute, loader.seek):
                with pytest.raises(LookupError, match=f"another number of ranks.*at batch {known_from}"):
                    ask(1, known_from - 1)
        # From the epoch after it, back into the epoch that other ranks began.
        point = sorted(of_rank)[1]
        assert point >= (1, known_from)
        loader.seek(*point)
        assert seen(loader) == {each: samples for each, samples in of_rank.items() if each >= point}
    returned += [samples for of_rank in found for (epoch, batch), samples in sorted(of_rank.items())[2:] if epoch == 1]
    # No batch of the epoch is lost. The last round is filled, or dropped.
    distinct = set(map(tuple, returned))
    whole = _whole(order)
    assert distinct <= whole
    if "dropped" not in order:
        assert distinct == whole
    if order == "a drawn order":
        return  # epochs before the latest two are unknown
    for loader in ranks:  # from a place before it, the epoch is returned as a whole
        loader.seek(0, 5)
        assert min(seen(loader)) == (0, 5)
        whole_epoch = seen(loader)
        assert min(whole_epoch) == (1, 0)
        assert all(loader.explain(*point).samples == samples for point, samples in whole_epoch.items())


def _began(worlds):
    """Return the batch of all ranks at which the last number of ranks began."""
    point = began = 0
    for index, world in enumerate(worlds):
        if index and world != worlds[index - 1]:
            began = point
        point += 2 * world
    return began


def _whole(order):
    """Return the batches of epoch 1."""
    (loader,) = ranks_of(order, 1)
    list(loader)
    return set(seen(loader).values())
