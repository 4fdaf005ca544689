"""Iterable-style datasets that count their epochs continue counting after a resume, as in the uninterrupted run."""

import contextlib
import copy
import pickle
from functools import partial

import pytest
import torch
from helpers.engine_parts import pipeline_of_torch
from helpers.faults import burns
from helpers.gates import Gate, pass_gate
from helpers.injected_exceptions import Strike, Struck
from helpers.numbered_batches import iter_after
from helpers.torch_batches import HasPosition, Stream, continued
from torch.utils import data

from mpqueue.torch import DataLoader

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
LENGTH = 4


class Counted(data.IterableDataset):
    """Numbers with the count of the epoch. After the epoch, its state is its last place."""

    def __init__(self, epoch=-1):
        self.epoch, self.at, self.is_resumed = epoch, 0, False

    def __iter__(self):
        if not self.is_resumed:
            self.epoch, self.at = self.epoch + 1, 0
        self.is_resumed = False
        while self.at < LENGTH:
            self.at += 1
            yield 100 * self.epoch + self.at - 1

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at, self.is_resumed = state["epoch"], state["at"], True


class CountsAtItsEnd(Counted):
    """After the end of an epoch, its state is the beginning of the next epoch."""

    def __init__(self):
        super().__init__(0)

    def __iter__(self):
        while self.at < LENGTH:
            self.at += 1
            yield 100 * self.epoch + self.at - 1
        self.epoch, self.at = self.epoch + 1, 0


class CountsInIter(Counted):
    """Counts at once when it is iterated, and not with the first element."""

    def __iter__(self):
        if not self.at:
            self.epoch += 1
        return self.rest()

    def rest(self):
        for number in range(self.at, LENGTH):
            self.at = number + 1
            yield 100 * self.epoch + number
        self.at = 0


class HasTable(CountsInIter):
    """Contains a tensor, as many datasets do, and itself."""

    def __init__(self):
        super().__init__()
        self.table, self.parent = torch.arange(3), self


class OwnIterator(CountsAtItsEnd):
    def __iter__(self):
        return self

    def __next__(self):
        if self.at == LENGTH:
            self.epoch, self.at = self.epoch + 1, 0
            raise StopIteration
        self.at += 1
        return 100 * self.epoch + self.at - 1


class Steps(HasPosition):
    """An iterator with separate state."""

    def __init__(self, epoch):
        self.epoch, self.at = epoch, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == LENGTH:
            raise StopIteration
        self.at += 1
        return 100 * self.epoch + self.at - 1


class CountsForItsIterator(data.IterableDataset):
    """The dataset counts, and its iterator has the place."""

    epoch = -1

    def __iter__(self):
        self.epoch += 1
        return Steps(self.epoch)

    def state_dict(self):
        return {"epoch": self.epoch - 1}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


class KeepsPosition(data.IterableDataset):
    """Begins each epoch where a state was loaded, as Hugging Face's datasets do."""

    def __init__(self):
        self.loaded, self.state = None, {"at": 0}

    def __iter__(self):
        for number in range(0 if self.loaded is None else self.loaded["at"], LENGTH):
            self.state = {"at": number + 1}
            yield number

    def state_dict(self):
        return copy.deepcopy(self.state)

    def load_state_dict(self, state):
        self.loaded = state


class Wraps(data.IterableDataset):
    """Counts its epochs, and wraps datasets with the place."""

    def __init__(self):
        self.epoch, self.parts = -1, [KeepsPosition()]

    def __iter__(self):
        if self.parts[0].loaded is None:
            self.epoch += 1
        return (100 * self.epoch + number for number in self.parts[0])

    def state_dict(self):
        return {"epoch": self.epoch, "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


COUNTING = [Counted, CountsAtItsEnd, CountsInIter, OwnIterator, CountsForItsIterator]
WAYS = {
    "inline": {"num_workers": 0},
    "fork": {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "fork"},
    "spawn": {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "spawn"},
    "two workers": {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "fork"},
}


def made(kind, way, size=None, loader_class=DataLoader):
    generator = torch.Generator().manual_seed(7)
    return loader_class(kind(), batch_size=size, generator=generator, **WAYS[way])


def values(batches):
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in batches]


def run(make, num_epochs, taken):
    """Return the batches before a state, the state, and the rest of the uninterrupted run: two epochs."""
    loader = make()
    for _ in range(num_epochs):
        values(loader)
    if taken is None:
        return [], pickle.loads(pickle.dumps(loader.state_dict())), [values(loader), values(loader)]
    batches = iter(loader)
    seen = values(next(batches) for _ in range(taken))
    return seen, pickle.loads(pickle.dumps(loader.state_dict())), [values(batches), values(loader)]


@pytest.mark.parametrize(("size", "taken"), [(None, 2), (None, 4), (3, 1), (3, 2), (None, None), (3, None)])
@pytest.mark.parametrize("way", ["inline", "fork"])
@pytest.mark.parametrize("kind", [*COUNTING, HasTable])
def test_resumed_dataset_continues_its_count(kind, way, size, taken):
    """Within an epoch, at its last batch, and after it; and resumed once more from the resumed loader."""
    for num_epochs in (1, 2):
        _, state, rest = run(lambda: made(kind, way, size), num_epochs, taken)
        loader = continued(made(kind, way, size), state)
        assert [values(loader), values(loader)] == rest
        assert rest[1][0] in (100 * (num_epochs + 1), [100 * (num_epochs + 1) + each for each in range(3)])
        again = continued(made(kind, way, size), loader.state_dict())
        assert values(again) == values(loader)


class DrawsAtOnce(CountsInIter):
    """Draws random numbers of torch when it is iterated."""

    def __iter__(self):
        self.drawn = self.drawn if self.at else torch.randint(1000, ()).item()
        return super().__iter__()

    def state_dict(self):
        return super().state_dict() | {"drawn": self.drawn}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.drawn = state["drawn"]

    def rest(self):
        return (1000 * number + self.drawn for number in super().rest())


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize("way", ["inline", "fork", "two workers"])
@pytest.mark.parametrize("kind", [*COUNTING, DrawsAtOnce, Wraps])
def test_state_before_the_first_batches_of_an_epoch_has_the_count(kind, way, taken):
    """The generator of the dataset has not started, or its worker has not returned a batch yet."""
    for num_epochs in (0, 1, 2):
        _, state, rest = run(lambda: made(kind, way), num_epochs, taken)
        if kind is DrawsAtOnce and way == "inline":  # it draws from the generators of the program
            rest = [[number // 1000 for number in epoch] for epoch in rest]
        for _ in range(2):  # resumed, and once more from the resumed loader at the same place
            loader = continued(made(kind, way), state)
            batches = iter(loader)
            state = pickle.loads(pickle.dumps(loader.state_dict()))
            found = [values(batches), values(loader)]
            if kind is DrawsAtOnce and way == "inline":
                found = [[number // 1000 for number in epoch] for epoch in found]
            assert found == rest


COPIES = [lambda loader: loader, copy.copy, copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))]


@pytest.mark.parametrize("copy_of", COPIES, ids=["same", "copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("kind", [Counted, KeepsPosition])
@pytest.mark.parametrize("num_read", [0, 1, 2])
def test_loader_or_its_copy_begins_the_next_epoch_after_a_resumed_one(kind, copy_of, num_read):
    _, state, _ = run(lambda: made(kind, "inline"), 1, 2)
    loader = continued(made(kind, "inline"), state)
    batches = iter_after(loader, num_read)
    loader = copy_of(loader)
    batches = iter(loader)
    state = loader.state_dict()
    expected = [values([number + 100 * (kind is not KeepsPosition) * epoch for number in range(4)]) for epoch in (2, 3)]
    assert [values(batches), values(loader)] == expected
    loader = continued(made(kind, "inline"), state)
    assert [values(loader), values(loader)] == expected


class CannotSave(Counted):
    def state_dict(self):
        raise NotImplementedError


def test_program_that_requests_no_state_needs_none():
    loader = made(CannotSave, "inline")
    assert [values(loader)[0] for _ in range(3)] == [0, 100, 200]


class CountedWithoutState(data.IterableDataset):
    epoch = -1

    def __iter__(self):
        self.epoch += 1
        yield from range(100 * self.epoch, 100 * self.epoch + LENGTH)


def late(address, number):
    """Wait in the second worker."""
    if number:
        pass_gate(address)


@pytest.mark.parametrize("kind", [Counted, CountedWithoutState])
def test_pass_that_was_left_counts_for_a_worker_that_starts_late(kind, monkeypatch):
    with Gate() as gate:
        options = WAYS["two workers"] | {"worker_init_fn": partial(late, gate.address)}
        loader = DataLoader(kind(), batch_size=None, **options)
        assert next(iter(loader)) == 0
        arrival, backend = gate.arrival(), pipeline_of_torch(loader).backend
        wait, is_held = backend.wait, [True]

        def wait_after_release(*args):
            if is_held:
                is_held.clear()
                arrival.let_go()
            return wait(*args)

        monkeypatch.setattr(backend, "wait", wait_after_release)
        assert values(loader) == [100, 100, 101, 101, 102, 102, 103, 103]


class Shared(Counted):
    """The dataset reads a tensor in shared memory, which the program changes."""

    def __init__(self):
        super().__init__()
        self.base = torch.zeros((), dtype=torch.int64).share_memory_()

    def __iter__(self):
        for number in super().__iter__():
            yield number + 10_000 * self.base.item()


@pytest.mark.parametrize("way", ["inline", "fork", "spawn"])
def test_program_still_reaches_a_dataset_that_got_a_state(way):
    _, state, _ = run(lambda: made(Shared, way), 1, 2)
    loader = continued(made(Shared, way), state)
    assert values(loader) == [102, 103]
    loader.dataset.base.fill_(1)
    assert values(loader) == [10_200, 10_201, 10_202, 10_203]


class Crashes(Counted):
    def __init__(self, gate=None, fuse=None, at=202):
        super().__init__()
        self.gate, self.fuse, self.crashes_at = gate, str(fuse), at

    def __iter__(self):
        for number in super().__iter__():
            if number == self.crashes_at and self.gate is not None and burns(self.fuse):
                pass_gate(self.gate)
            yield number


def test_worker_crash_after_a_resume_keeps_the_count(tmp_path):
    _, state, _ = run(lambda: made(Crashes, "fork"), 1, 2)
    with Gate() as gate:
        loader = continued(made(lambda: Crashes(gate.address, tmp_path / "fuse"), "fork"), state)
        assert values(loader) == [102, 103]
        batches = iter(loader)
        assert next(batches) == 200
        gate.arrival().kill()
        assert values(batches) == [201, 202, 203]
        assert values(loader) == [300, 301, 302, 303]


def test_epoch_continues_after_an_interrupt_that_may_replace_the_worker():
    """The interrupts strike at different places of the call for the second batch."""
    for after in range(1, 31, 3):
        loader = made(CountsInIter, "fork", 2)
        values(loader)
        batches = iter(loader)
        found = [next(batches)]
        with contextlib.suppress(Struck), Strike(after):
            found.append(next(batches))
        assert values([*found, *batches]) == [[100, 101], [102, 103]], after
        assert [values(loader)[0] for _ in range(2)] == [[200, 201], [300, 301]], after


def test_worker_crash_before_the_first_batch_of_an_epoch_keeps_the_count(tmp_path):
    with Gate() as gate:
        loader = made(lambda: Crashes(gate.address, tmp_path / "fuse", at=100), "fork")
        values(loader)
        batches = iter(loader)
        gate.arrival().kill()
        assert values(batches) == [100, 101, 102, 103]
        assert values(loader) == [200, 201, 202, 203]


def test_pass_that_a_worker_has_not_begun_counts_once(tmp_path):
    with Gate() as gate:
        loader = made(lambda: Crashes(gate.address, tmp_path / "fuse", at=0), "fork")
        iter(loader)
        arrival = gate.arrival()
        iter(loader)
        batches = iter(loader)
        arrival.let_go()
        assert values(batches) == [200, 201, 202, 203]


class OnlySaves(data.IterableDataset):
    def __iter__(self):
        return iter(range(LENGTH))

    def state_dict(self):
        return {}


@pytest.mark.parametrize("way", ["inline", "fork"])
def test_dataset_that_cannot_load_a_state_is_rejected(way):
    _, state, _ = run(lambda: made(OnlySaves, way), 0, 2)
    with pytest.raises(ValueError, match=r"OnlySaves has state_dict\(\) but not load_state_dict\(state\)"):
        made(OnlySaves, way).load_state_dict(state)
    _, state, _ = run(lambda: made(Counted, way), 1, 2)
    loader = continued(made(lambda: Stream(range(LENGTH)), way), state)
    with pytest.raises(ValueError, match="load it into a loader of the same dataset"):
        values(loader)


@pytest.mark.parametrize("way", ["inline", "fork"])
def test_dataset_that_has_become_shorter_is_an_error_and_no_empty_epoch(way):
    _, state, _ = run(lambda: made(lambda: Stream(range(9)), way), 0, 5)
    loader = continued(made(lambda: Stream(range(3)), way), state)
    with pytest.raises(ValueError, match="saved after 5 batches"):
        values(loader)
