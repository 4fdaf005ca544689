"""Random samplers without a state: the order of an epoch is kept after interrupts and resumes."""

import itertools
import json
import random

import numpy as np
import pytest
from helpers.loader_runs import batches_of, begun
from helpers.numbered_batches import iter_after
from helpers.saved_states import saved_with

import mpqueue

pytestmark = pytest.mark.sample(1)

LENGTH, SIZE = 24, 3


def interrupt(batches):
    """Interrupt the next `next` during its work, as by Ctrl-C."""
    ledger = batches.pipeline.ledger
    take = ledger.take

    def strike():
        ledger.take = take
        raise KeyboardInterrupt

    ledger.take = strike


class Keeping:
    """A sampler that draws lazily from its own generator."""

    def __init__(self, generator):
        self.generator = generator

    def __iter__(self):
        if isinstance(self.generator, random.Random):
            yield from self.generator.sample(range(LENGTH), LENGTH)
        else:
            left = list(range(LENGTH))
            while left:
                yield left.pop(int(self.generator.integers(len(left))))


class Shuffling:
    """A sampler that draws its order from a global generator when an epoch begins."""

    def __init__(self, shuffle):
        self.shuffle = shuffle

    def __iter__(self):
        order = list(range(LENGTH))
        self.shuffle(order)
        return iter(order)


class Choosing:
    """A sampler that draws from a global generator for each index."""

    def __iter__(self):
        for _ in range(LENGTH):
            yield random.randrange(LENGTH)


class Wrapping:
    """A sampler of batches around a sampler of samples."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        samples = iter(self.sampler)
        while batch := list(itertools.islice(samples, SIZE)):
            yield batch


def of_torch(name, seed):
    torch = pytest.importorskip("torch")
    source = range(LENGTH)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if name == "weights":
        return torch.utils.data.WeightedRandomSampler([1.0] * LENGTH, LENGTH, generator=generator)
    if name == "subset":
        return torch.utils.data.SubsetRandomSampler(range(LENGTH), generator=generator)
    return torch.utils.data.RandomSampler(source, generator=generator)


SAMPLERS = {
    "Python's generator": lambda seed: Keeping(random.Random(seed)),
    "NumPy's generator": lambda seed: Keeping(np.random.default_rng(seed)),
    "NumPy's Mersenne twister": lambda seed: Keeping(np.random.Generator(np.random.MT19937(seed))),
    "one of batches": lambda seed: Wrapping(Keeping(random.Random(seed))),
    "Python's global generator": lambda seed: Shuffling(random.shuffle),
    "NumPy's global generator": lambda seed: Shuffling(np.random.shuffle),
    "torch's, with a generator": lambda seed: of_torch("random", seed),
    "torch's, without one": lambda seed: of_torch("random", None),
    "torch's weights": lambda seed: of_torch("weights", seed),
    "torch's subset": lambda seed: of_torch("subset", None),
}


OWN = ["Python's generator", "NumPy's generator", "torch's, with a generator"]  # their states include the generator


def options_of(sampler):
    return {"batch_sampler": sampler} if isinstance(sampler, Wrapping) else {"sampler": sampler, "batch_size": SIZE}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("at", [0, 5])
def test_state_resumes_order_of_epoch(name, at):
    options = options_of(SAMPLERS[name](1))
    with mpqueue.Loader(range(LENGTH), workers=2, **options) as loader:
        list(loader)
        stream = iter_after(loader, at)
        state = json.dumps(loader.state_dict())
        rest, later = ([batch.tolist() for batch in each] for each in (stream, loader))
    with mpqueue.Loader(range(LENGTH), workers=1, **options_of(SAMPLERS[name](2))) as loader:
        loader.load_state_dict(json.loads(state))
        assert json.dumps(loader.state_dict()) == state
        assert [batch.tolist() for batch in loader] == rest
        if name in OWN:
            assert [batch.tolist() for batch in loader] == later


@pytest.mark.parametrize("name", ["Python's global generator", "NumPy's global generator", "torch's, without one"])
def test_random_numbers_of_trainer_are_unchanged(name):
    options = options_of(SAMPLERS[name](1))
    _, state = begun(range(LENGTH), 1, workers=0, **options)
    torch = pytest.importorskip("torch")

    def numbers():
        return random.random(), np.random.random(), torch.rand(()).item()

    def seed():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    expected = numbers()
    seed()
    begun(range(LENGTH), 1, state=state, workers=0, **options)
    assert numbers() == expected


@pytest.mark.parametrize("sampler", [*map(SAMPLERS.get, SAMPLERS), lambda _: Choosing()], ids=[*SAMPLERS, "choosing"])
@pytest.mark.parametrize("workers", [0, 2])
def test_interrupt_draws_no_new_order(sampler, workers):
    drawn = []

    class Noting:
        def __init__(self, inner):
            self.inner = inner

        def __iter__(self):
            for indices in self.inner:
                drawn.append(indices)
                yield indices

    sampler = sampler(1)
    options = options_of(sampler)
    options[next(iter(options))] = Noting(sampler)
    found = []
    with mpqueue.Loader(range(LENGTH), workers=workers, max_queue_size=3, **options) as loader:
        stream = iter(loader)
        for number in range(LENGTH // SIZE):
            if number in {0, 3, LENGTH // SIZE - 1}:
                interrupt(stream)
                with pytest.raises(KeyboardInterrupt):
                    next(stream)
            found.append(next(stream).tolist())
        assert list(stream) == []
    flat = list(itertools.chain(*drawn)) if isinstance(sampler, Wrapping) else drawn
    assert list(itertools.chain(*found)) == flat
    assert len(flat) == LENGTH


def test_interrupt_in_sampler_keeps_order():
    class Striking(Keeping):
        strikes = True

        def __iter__(self):
            for number, index in enumerate(super().__iter__()):
                if number == 8 and self.strikes:
                    self.strikes = False
                    raise KeyboardInterrupt
                yield index

    found = []
    with mpqueue.Loader(range(LENGTH), sampler=Striking(random.Random(1)), batch_size=SIZE, workers=0) as loader:
        stream = iter(loader)
        while len(found) < LENGTH // SIZE:
            try:
                found.append(next(stream).tolist())
            except KeyboardInterrupt:
                continue
    assert sorted(itertools.chain(*found)) == list(range(LENGTH))


def state_of(sampler, at=2):
    return begun(range(LENGTH), at, sampler=sampler, batch_size=SIZE, workers=0)[1]


def test_changed_sampler_output_warns_with_remedy():
    random.seed(1)
    state = state_of(Choosing())
    with mpqueue.Loader(range(LENGTH), sampler=Choosing(), batch_size=SIZE, workers=0) as loader:
        loader.load_state_dict(state)
        said = r"sampler \(Choosing\) returned different indices for the first 2 batches of epoch 0.*state_dict"
        with pytest.warns(UserWarning, match=said):
            list(loader)


def test_changed_order_of_ranks_warns():
    state = state_of(list(range(LENGTH)))
    order = list(range(LENGTH))[::-1]
    with mpqueue.Loader(range(LENGTH), sampler=order, batch_size=SIZE, workers=0, shard=(1, 2)) as loader:
        loader.load_state_dict(state)
        with pytest.warns(UserWarning, match="returned different indices"):
            assert next(iter(loader)).tolist() == [14, 13, 12]


def test_keys_without_stable_repr_are_not_compared():
    source = {object(): number for number in range(4)}
    _, state = begun(source, 1, sampler=list(source), batch_size=2, workers=0)
    other = {object(): number for number in range(4)}  # a warning would be an error
    assert batches_of(other, sampler=list(other), state=state, batch_size=2, workers=0) == [[2, 3]]


def test_state_without_fingerprint_loads():
    state = state_of(list(range(LENGTH)))
    del state["drawn"]
    options = {"sampler": list(range(LENGTH)), "batch_size": SIZE, "workers": 0}
    assert begun(range(LENGTH), 1, state=saved_with(state), **options)[0] == [[6, 7, 8]]
