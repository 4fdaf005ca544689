"""`mpqueue.torch.prefetch`: on the CPU the loader's batches; elsewhere copied ahead, with a stand-in for the device."""

import weakref
from typing import NamedTuple

import pytest
import torch
from helpers.numbered_batches import iter_after
from helpers.torch_batches import Numbers

import mpqueue.torch
from mpqueue.frameworks.torch import iterator as passes
from mpqueue.frameworks.torch.prefetching import DevicePrefetcher, _Moving, _record, map_tensors


class Pair(NamedTuple):
    x: torch.Tensor
    y: tuple


def _loader(workers=0, **options):
    return mpqueue.torch.DataLoader(range(12), batch_size=2, num_workers=workers, **options)


class Mover:
    """A device that completes copies on request of the test."""

    def __init__(self):
        self.started, self.finished, self.passed = [], [], set()
        self._hosts = weakref.WeakValueDictionary()

    def host_batches(self):
        """Return the first numbers of the batches that still exist in host memory."""
        return sorted(self._hosts)

    def start(self, batch):
        self._hosts[batch.tolist()[0]] = batch
        self.started.append(batch.tolist())
        return _Moving(batch + 100, batch, batch.tolist()[0])

    def finish(self, moving):
        self.finished.append(moving.host.tolist())
        return moving.batch

    def is_done(self, moving):
        return moving.event in self.passed

    def release(self, moving):
        moving.host = None


def _on_device(loader, depth=2):
    mover = Mover()
    return DevicePrefetcher(loader, torch.device("meta"), mover, depth), mover


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_on_the_cpu_are_unchanged(workers):
    batches = mpqueue.torch.prefetch(_loader(workers), "cpu")
    assert len(batches) == 6
    assert repr(batches) == f"<batches of {batches.loader!r} on cpu>"
    for _ in range(2):
        assert [batch.tolist() for batch in batches] == [[2 * n, 2 * n + 1] for n in range(6)]


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_is_the_number_of_batches_copied_ahead(depth):
    batches, mover = _on_device(_loader(), depth)
    for index, batch in enumerate(batches, 1):
        assert batch.tolist() == [100 + 2 * index - 2, 100 + 2 * index - 1]
        assert len(mover.started) == min(6, index + depth)
        assert len(mover.finished) == index


def test_host_batch_is_kept_until_its_copies_are_done():
    batches, mover = _on_device(_loader(), 1)
    iterator = iter_after(batches, 2)
    assert mover.host_batches() == [0, 2, 4]
    mover.passed.add(0)
    next(iterator)
    assert mover.host_batches() == [2, 4, 6]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("taken", [0, 1, 5, 6])
def test_state_counts_returned_batches(taken, workers):
    batches, _ = _on_device(_loader(workers))
    iterator = iter(batches)
    seen = [next(iterator).tolist() for _ in range(taken)]
    other, _ = _on_device(_loader())
    other.load_state_dict(batches.state_dict())
    rest = [batch.tolist() for batch in other]
    whole = [batch.tolist() for batch in _on_device(_loader())[0]]
    assert seen + rest == whole


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("depth", [1, 3, 9])
def test_last_is_the_returned_batch_and_not_the_one_copied_last(depth, workers):
    batches, _ = _on_device(_loader(workers, shuffle=True), depth)
    assert batches.last is None
    for epoch in range(2):
        for index, batch in enumerate(batches):
            info = batches.last
            assert (info.epoch, info.batch, info.step) == (epoch, index, epoch * 6 + index)
            assert info.samples == tuple(value - 100 for value in batch.tolist())
        assert batches.last == info


def test_samples_that_are_not_read_are_not_computed(monkeypatch):
    asked = []
    of_each = mpqueue.plan.sources.sources.ItemIds.of
    monkeypatch.setattr(mpqueue.plan.sources.sources.ItemIds, "of", lambda *args: asked.append(args) or of_each(*args))
    with mpqueue.Loader([torch.tensor(index) for index in range(12)], batch_size=2, workers=0) as loader:
        batches, _ = _on_device(loader)
        for index, _ in enumerate(batches):
            if index == 3:
                assert not asked
                assert batches.last.samples == (6, 7)


def test_last_of_a_loader_without_it_is_missing():
    with pytest.raises(AttributeError, match="last"):
        _ = _on_device([torch.ones(1)])[0].last


def test_error_is_raised_after_earlier_batches_and_next_continues():
    class Raising(Numbers):
        def __getitem__(self, index):
            if index == 2:
                raise LookupError("a broken sample")
            return index

    loader = mpqueue.torch.DataLoader(Raising(4), batch_size=None, num_workers=1, collate_fn=_tensor)
    batches = iter(_on_device(loader)[0])
    found = [next(batches).item(), next(batches).item()]
    with pytest.raises((LookupError, RuntimeError), match="a broken sample"):
        next(batches)
    assert [*found, *(batch.item() for batch in batches)] == [100, 101, 103]


def _tensor(value):
    return torch.tensor([value])


def test_all_movable_objects_of_a_batch_are_found():
    batch = {"a": [torch.zeros(1), "text"], "b": Pair(torch.zeros(2), (3, torch.zeros(3)))}
    moved = map_tensors(batch, lambda value: value + 1)
    assert moved["a"][0].tolist() == [1]
    assert moved["a"][1] == "text"
    assert type(moved["b"]) is Pair
    assert moved["b"].y[0] == 3
    assert moved["b"].y[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, "cpu"), TypeError, "needs a loader or an iterable of batches, got int"),
        (([], "cpu", 0), ValueError, "depth must be 1 or more, got 0"),
        (([], "cpu", 1.5), TypeError, "depth must be an integer, got 1.5"),
        (([], "cpu", True), TypeError, "depth must be an integer, got True"),
        (([], "meta"), RuntimeError, 'torch has no streams for "meta"'),
    ],
)
def test_bad_input_is_rejected(arguments, error, message):
    with pytest.raises(error, match=message):
        mpqueue.torch.prefetch(*arguments)


@pytest.mark.parametrize("persistent", [False, True])
def test_exclusion_begins_after_the_returned_batch_and_equals_a_resumed_run(persistent):
    options = {"workers": 1, "persistent_workers": persistent}
    plain, ahead = _loader(**options), _loader(**options)
    batches, _ = _on_device(ahead, 3)
    loops = iter(plain), iter(batches)
    assert [next(loop).tolist() for loop in loops] == [[0, 1], [100, 101]]
    for loader in (plain, ahead):
        loader.exclude([4, 9])
    state = batches.state_dict()
    assert state == ahead.state_dict()
    assert state["place"] == plain.state_dict()["place"]
    expected = [[2, 3], [5], [6, 7], [8], [10, 11]]
    assert [batch.tolist() for batch in loops[0]] == expected
    assert [(batch - 100).tolist() for batch in loops[1]] == expected
    other, _ = _on_device(_loader(1))
    other.load_state_dict(state)
    assert [(batch - 100).tolist() for batch in other] == expected
    assert [(batch - 100).tolist() for batch in batches] == [[0, 1], *expected], "the next pass"


def test_interrupted_request_loses_no_batch_that_was_copied_ahead(monkeypatch):
    def strike():
        monkeypatch.undo()
        raise KeyboardInterrupt

    batches, _ = _on_device(_loader(1), 2)
    iterator = iter(batches)
    found = [next(iterator).tolist()]
    monkeypatch.setattr(passes, "_is_profiled", strike)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    found += [batch.tolist() for batch in iterator]
    assert found == [[100 + 2 * n, 101 + 2 * n] for n in range(6)]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("form", [torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse])
def test_the_parts_of_a_sparse_tensor_are_recorded(form, monkeypatch):
    """torch has no `record_stream` for a sparse tensor itself."""
    recorded = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: recorded.append((tensor.layout, stream)))
    value = form(torch.eye(3))
    assert _record(value, "stream") is value
    assert len(recorded) >= 2
    assert set(recorded) == {(torch.strided, "stream")}
