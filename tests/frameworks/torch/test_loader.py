"""`mpqueue.torch.DataLoader` beyond the golden cases: lifetime, crashes, states, random numbers, sharing strategies."""

import contextlib
import copy
import gc
import json
import multiprocessing
import os
import pickle
import queue
import re
import signal
import threading
import warnings
from multiprocessing.context import SpawnContext

import pytest
import torch
from helpers.docstrings import OF_TORCH
from helpers.faults import burns
from helpers.forked_calls import status_of_fork
from helpers.gates import Gate, pass_gate
from helpers.numbered_batches import iter_after
from helpers.torch_batches import HasPosition, Numbers, continued, lists
from helpers.unread_parameters import unread_parameters
from torch.utils import data
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import mpqueue.torch
from mpqueue.errors import StateDamaged
from mpqueue.torch import DataLoader, prefetch


class Pids(Numbers):
    """A dataset with the process ids of the workers as items."""

    def __getitem__(self, _index):
        return os.getpid()


class Kills(Numbers):
    """A dataset with one item that kills its worker."""

    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_iterator_is_an_instance_of_torchs_class():
    iterator = iter(DataLoader(Numbers(), batch_size=5, num_workers=2))
    assert isinstance(iterator, _MultiProcessingDataLoaderIter)
    assert len(iterator) == 3
    assert iter(iterator) is iterator
    with pytest.raises(NotImplementedError):
        pickle.dumps(iterator)


def test_shutdown_workers_ends_workers_and_iterator():
    """Libraries that use torch's iterator call this method."""
    iterator = iter(DataLoader(Pids(), batch_size=1, num_workers=1, persistent_workers=True))
    pid = int(next(iterator))
    for _ in range(2):
        iterator._shutdown_workers()
    assert not os.path.exists(f"/proc/{pid}")
    assert list(iterator) == []


def test_workers_end_with_the_last_reference():
    iterator = iter(DataLoader(Pids(100), batch_size=1, num_workers=1))
    pid = int(next(iterator))
    del iterator
    gc.collect()
    assert not os.path.exists(f"/proc/{pid}")


class RaisesLater(data.Sampler):
    """Yields four indices, and raises."""

    def __init__(self):
        pass

    def __len__(self):
        return 10

    def __iter__(self):
        yield from range(4)
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner


def test_workers_end_with_the_last_reference_though_the_sampler_has_raised_ahead():
    loader = DataLoader(Pids(100), batch_size=1, num_workers=2, sampler=RaisesLater())
    iterator = iter(loader)
    pid = int(next(iterator))
    del iterator
    gc.collect()
    assert not os.path.exists(f"/proc/{pid}")
    with pytest.raises(ValueError, match="outer") as raised:
        list(loader)
    (note,) = raised.value.__notes__
    assert "in __iter__\n" in note
    assert "KeyError: 'inner'" in note


def test_workers_end_with_the_last_reference_though_the_draw_after_an_error_was_interrupted():
    class Raises(Numbers):
        def __getitem__(self, index):
            raise ValueError(os.getpid())

    class Interrupts(RaisesLater):
        def __iter__(self):
            yield from range(4)
            raise KeyboardInterrupt

    iterator = iter(DataLoader(Raises(100), batch_size=1, num_workers=2, sampler=Interrupts()))
    with pytest.raises(KeyboardInterrupt) as raised:
        next(iterator)
    pid = int(re.search(r"\d+", str(raised.value.__context__))[0])
    del iterator, raised
    gc.collect()
    assert not os.path.exists(f"/proc/{pid}")


def test_item_that_crashes_every_worker_is_a_runtime_error():
    with pytest.raises(RuntimeError, match=r"DataLoader.*SIGKILL.*batch 1 of epoch 0 \(samples 2, 3\);"):
        list(DataLoader(Kills(), batch_size=2, num_workers=1))


def test_stop_iteration_of_an_item_ends_the_loop_with_one_warning():
    class Stops(Numbers):
        def __getitem__(self, index):
            if index in (3, 7):
                raise StopIteration
            return index

    iterator = iter(DataLoader(Stops(), batch_size=2, num_workers=1))
    with pytest.warns(RuntimeWarning, match="StopIteration") as caught:
        parts = [lists(iterator) for _ in range(3)]
    assert parts == [[[0, 1]], [[4, 5]], [[8, 9], [10, 11]]]
    assert len(caught) == 1


class Changing(Numbers):
    value = 0

    def __getitem__(self, index):
        return torch.tensor([self.value, os.getpid()])


@pytest.mark.parametrize(("method", "values"), [("fork", {1, 2}), ("spawn", {1})])
def test_replacement_worker_has_the_documented_dataset(method, values):
    dataset = Changing(24)
    dataset.value = 1
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=1, multiprocessing_context=method))
    ((_, pid),) = next(batches).tolist()
    dataset.value = 2
    os.kill(pid, signal.SIGKILL)
    rest = [row for batch in batches for row in batch.tolist()]
    assert len({process for _, process in rest} - {pid}) == 1
    assert {value for value, _ in rest} | {1} == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("shard", (0, 2)), ("lanes", 4), ("epoch_batches", 1), ("threads", 2), ("concurrency", 4)),
        *(("balance", mpqueue.Balance([1] * 8)), ("backend", "ray"), ("ray_options", {}), ("batch_size", 3)),
    ],
)
def test_arguments_cannot_be_assigned_later(name, value):
    """As torch refuses its own."""
    loader = DataLoader(range(8), batch_size=2)
    with pytest.raises(ValueError, match=f"{name} attribute should not be set after DataLoader is initialized"):
        setattr(loader, name, value)


def test_attributes_of_wrappers_raise():
    """A program that sets an attribute of its object learns from the error that it has a different object."""
    stream = DataLoader(mpqueue.Dataset.range(9).filter(bool), batch_size=2)
    for wrapper in (stream.dataset, prefetch(stream, "cpu")):
        with pytest.raises(AttributeError, match="has no attribute 'level'"):
            wrapper.level = 1
    assert prefetch(stream, "cpu").loader is stream


def test_public_functions_read_each_parameter():
    assert unread_parameters(OF_TORCH) == []


def test_class_is_generic_like_torchs():
    """A program that uses ``DataLoader[Tensor]`` runs with this class instead."""
    typed = DataLoader[torch.Tensor](Numbers(), num_workers=0)
    assert isinstance(typed, DataLoader)
    assert isinstance(typed, data.DataLoader)


def test_dataset_with_gpu_memory_is_rejected(monkeypatch):
    class OnGpu:
        is_cuda = True

    dataset = Numbers()
    dataset.models = {"net": [OnGpu()]}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match=r"dataset\.models\['net'\]\[0\].*spawn"):
        iter(DataLoader(dataset, num_workers=1))
    dataset.models = {"net": [torch.ones(1)]}
    assert len(list(DataLoader(dataset, num_workers=1))) == 12


# -- Random numbers


def test_dataset_without_draws_is_computed_once():
    class Counting(Numbers):
        calls = 0

        def __getitem__(self, _index):
            self.calls += 1
            return self.calls

    loader = DataLoader(Counting(20), batch_size=2, num_workers=1)
    assert [call for batch in lists(loader) for call in batch] == list(range(1, 21))


# -- State


class Counted(HasPosition, data.IterableDataset):
    """Numbers that are recorded when they are read; its state is the position of its latest iterator."""

    def __init__(self, log, gate=None, fuse=None):
        self.log, self.gate, self.fuse, self.begins_at = str(log), gate, str(fuse), 0

    def __iter__(self):
        for number in range(self.begins_at, 20):
            if number == 12 and self.gate is not None and burns(self.fuse):
                pass_gate(self.gate)
            with open(self.log, "a", encoding="ascii") as log:
                log.write(f"{number} ")
            self.at = number + 1
            yield number

    def load_state_dict(self, state):
        self.begins_at = state["at"]


@pytest.mark.usefixtures("many_snapshots")
def test_stream_with_a_state_continues_after_a_worker_crash(tmp_path):
    with Gate() as gate:
        dataset = Counted(tmp_path / "log", gate.address, tmp_path / "fuse")
        options = {"prefetch_factor": 8, "persistent_workers": True, "multiprocessing_context": "fork"}
        loader = DataLoader(dataset, batch_size=2, num_workers=1, **options)
        batches = iter(loader)
        gate.arrival().kill()
        expected = [[number, number + 1] for number in range(0, 20, 2)]
        assert lists(batches) == expected
        read = list(map(int, (tmp_path / "log").read_text().split()))
        # The first two elements of copies show that the dataset continues at the state.
        assert (read[:12], set(read[12:-8]), read[-8:]) == (list(range(12)), {0, 1}, list(range(12, 20)))
        assert len(read) <= 24
        assert lists(loader) == expected  # again from the beginning


def _own(seed):
    return torch.Generator().manual_seed(seed)


class OwnSampler(data.Sampler):
    """A sampler with a state."""

    def __init__(self, seed):
        self.generator = _own(seed)

    def __iter__(self):
        return iter(torch.randperm(12, generator=self.generator).tolist())

    def __len__(self):
        return 12

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


class Shell:
    """Wraps a batch sampler that draws with its first batch."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


SAMPLERS = {
    "own state": lambda seed: {"batch_size": 2, "sampler": OwnSampler(seed)},
    "in a shell": lambda _: {
        "batch_sampler": Shell(data.BatchSampler(data.RandomSampler(Numbers()), 2, drop_last=False))
    },
}


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0), (2, 2)])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_state_contains_the_order_of_a_sampler(kind, before, after):
    """A loader with workers resumes from the state of one without, and vice versa."""

    def make(seed, workers):
        return DataLoader(Numbers(), num_workers=workers, **SAMPLERS[kind](seed))

    torch.manual_seed(4)
    loader = make(1, before)
    list(loader)
    iterator = iter_after(loader, 1)
    state = pickle.dumps(loader.state_dict())
    rest = lists(iterator)
    resumed = continued(make(2, after), pickle.loads(state))
    expected = torch.random.get_rng_state()
    assert lists(resumed) == rest
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert sorted(number for batch in lists(resumed) for number in batch) == list(range(12))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("is_batched", [False, True])
def test_state_contains_the_epoch_of_a_sampler(workers, is_batched):
    """A program need not set the epoch before it loads a state that contains it."""

    def make():
        sampler = data.distributed.DistributedSampler(Numbers(24), 2, 1, seed=3)
        if is_batched:
            return DataLoader(Numbers(24), batch_sampler=data.BatchSampler(sampler, 2, False), num_workers=workers)
        return DataLoader(Numbers(24), batch_size=2, sampler=sampler, num_workers=workers)

    def tell(loader, epoch):
        (loader.batch_sampler.sampler if is_batched else loader.sampler).set_epoch(epoch)

    loader, resumed = make(), make()
    tell(loader, 4)
    iterator = iter_after(loader, 1)
    resumed.load_state_dict(loader.state_dict())
    rest = lists(iterator)
    assert lists(resumed) == rest
    for each in (loader, resumed):
        tell(each, 5)
    assert lists(resumed) == lists(loader) != rest


def test_loaded_state_is_kept_in_states_and_copies_until_it_is_used():
    first, second, third = (DataLoader(Numbers(6), batch_size=2, num_workers=1) for _ in range(3))
    next(iter(first))
    second.load_state_dict(first.state_dict())
    third.load_state_dict(second.state_dict())
    for loader in (copy.deepcopy(second), third, second):
        assert lists(loader) == [[2, 3], [4, 5]]


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}],
    ids=["inline", "worker", "stays"],
)
def test_copy_of_a_used_loader_starts_again(options, copy_of):
    """With persistent workers, torch's own loader cannot be copied."""
    loader = DataLoader(Numbers(6), batch_size=2, **options)
    iterator = iter_after(loader, 1)
    copied = copy_of(loader)
    assert copied.state_dict()["place"] is None
    assert lists(copied) == [[0, 1], [2, 3], [4, 5]]
    assert copied.statistics().batches == (3 if options else 0)
    assert lists(iterator) == [[2, 3], [4, 5]]


class Labelled(data.DataLoader):
    """A base class with one more argument than torch's."""

    def __init__(self, *args, label, **options):
        super().__init__(*args, **options)
        self.label = label


class LabelledLoader(DataLoader, Labelled):
    """A class with both bases."""


def test_other_base_of_a_subclass_may_take_more_arguments():
    loader = LabelledLoader(Numbers(4), batch_size=2, label="x")
    assert (loader.label, len(loader)) == ("x", 2)
    with pytest.raises(TypeError, match="batchsize"):
        LabelledLoader(Numbers(4), batchsize=2, label="x")


def test_subclass_that_copies_its_dict_can_be_pickled():
    class Own(DataLoader):
        def __getstate__(self):
            return self.__dict__.copy()

    loader = Own(Numbers(4), batch_size=2, num_workers=1)
    next(iter(loader))
    assert lists(copy.deepcopy(loader)) == [[0, 1], [2, 3]]


def test_object_that_is_not_a_state_is_rejected():
    loader = DataLoader(Numbers(), num_workers=1)
    with pytest.raises(ValueError, match=r"expected a state of a mpqueue\.torch\.DataLoader"):
        loader.load_state_dict({"epoch": 3})


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("generator"),
        lambda state: state.update(generator="12"),
        lambda state: state.update(base_seed=None),
        lambda state: state.update(place=3),
        lambda state: state.update(history=[{"kind": "exclude"}]),
        lambda state: state["place"].pop("epoch"),
        lambda state: state["place"].update(position=-1),
        lambda state: state["place"].update(ahead="x"),
        lambda state: state["place"].update(counts=None),
    ],
)
def test_damaged_state_is_rejected_when_it_is_loaded(damage):
    """The loader does not change: its next pass continues where it was."""
    loader = DataLoader(Numbers(6), batch_size=2, shuffle=True)
    batches = iter_after(loader, 1)
    before = loader.state_dict()
    state = json.loads(json.dumps(before))
    damage(state)
    with pytest.raises(StateDamaged, match=r"[lL]oad an earlier checkpoint"):
        loader.load_state_dict(state)
    assert loader.state_dict() == before
    assert len(list(batches)) == 2


# -- Together with torch's own workers


PROGRAMS = {
    "start method": """
import multiprocessing
import mpqueue
assert len(list(mpqueue.torch.DataLoader(range(3), num_workers=1))) == 3
assert multiprocessing.get_start_method(allow_none=True) is None
""",
    "sharing strategies": """
import torch
from torch.utils import data
import mpqueue.torch
for strategy in sorted(torch.multiprocessing.get_all_sharing_strategies()):
    torch.multiprocessing.set_sharing_strategy(strategy)
    shared = torch.arange(6.0).share_memory_()
    ours = iter(mpqueue.torch.DataLoader([shared, shared], batch_size=None, num_workers=1))
    stock = iter(data.DataLoader([shared, shared], batch_size=None, num_workers=1))
    pairs = list(zip(ours, stock, strict=True))
    assert len(pairs) == 2 and all(torch.equal(left, right) and torch.equal(left, shared) for left, right in pairs)
    pairs[0][0].add_(1)
    assert float(shared[0]) == 0
""",
    "profiler": """
import torch
import mpqueue.torch
with torch.profiler.profile() as profile:
    list(mpqueue.torch.DataLoader(range(12), batch_size=4, num_workers=1))
assert any("enumerate(DataLoader)" in event.key for event in profile.key_averages())
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_sees_torchs_own_start_method_sharing_and_profile(interpreter, name):
    """In separate processes, because torch keeps a socket for its shared memory, and the profiler remains active."""
    assert interpreter.start(PROGRAMS[name], ["-c"], {number: number for number in range(3)}).wait(300) == 0


def test_data_pipes_use_torchs_own_workers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = data.datapipes.iter.IterableWrapper(range(4))
        iterator = iter(DataLoader(pipe, batch_size=2, num_workers=1))
    assert type(iterator) is _MultiProcessingDataLoaderIter
    assert sorted(number for batch in iterator for number in batch.tolist()) == [0, 1, 2, 3]


class ThreadContext(SpawnContext):
    """Workers are threads, as in MONAI's `ThreadDataLoader`."""

    _name = "processthread"

    class Process(threading.Thread):
        pid = 0

    class Queue(queue.Queue):
        def close(self):
            pass

        cancel_join_thread = close


@pytest.fixture
def _threads_are_workers(monkeypatch):
    """Undo what torch's loop of a worker leaves in its process, because its threads are in the process of the tests."""
    monkeypatch.setattr(data._utils.worker, "_worker_info", None)


@pytest.mark.usefixtures("_threads_are_workers")
@pytest.mark.parametrize("kind", [DataLoader, data.DataLoader])
def test_context_with_other_workers_uses_torchs_own(kind):
    with mpqueue.torch.install():
        iterator = iter(kind(Numbers(4), batch_size=2, num_workers=2, multiprocessing_context=ThreadContext()))
    assert type(iterator) is _MultiProcessingDataLoaderIter
    assert all(isinstance(worker, threading.Thread) for worker in iterator._workers)
    assert lists(iterator) == [[0, 1], [2, 3]]


@pytest.mark.usefixtures("_threads_are_workers")
@pytest.mark.parametrize("is_persistent", [False, True])
@pytest.mark.parametrize("is_installed", [False, True])
def test_states_of_torchs_own_workers_never_begin_again_silently(is_installed, is_persistent):
    def made(num_workers=2, seed=1):
        options = (
            {"multiprocessing_context": ThreadContext(), "persistent_workers": is_persistent} if num_workers else {}
        )
        kind = data.DataLoader if is_installed else DataLoader
        return kind(Numbers(8), 2, shuffle=True, num_workers=num_workers, generator=_own(seed), **options)

    with mpqueue.torch.install() if is_installed else contextlib.nullcontext():
        loader, again, inline = made(), made(seed=2), made(0)
        before, expected, batches = loader.state_dict(), lists(made()), iter(loader)
        first = next(batches)
        assert again.state_dict() != before
        again.load_state_dict(before)
        assert lists(again) == expected
        within = loader.state_dict()
        for _ in range(2):
            with pytest.warns(UserWarning, match="the next pass begins from its start"):
                again.load_state_dict(within)
            assert len(lists(again)) == 4
        assert [first.tolist(), *lists(batches)] == expected
        next(iter(inline))
        within = inline.state_dict()
        with pytest.raises(ValueError, match="torch's own workers run Numbers"):
            again.load_state_dict(within)
        assert again.state_dict() == again.state_dict()  # its place is unknown still
        with pytest.warns(UserWarning, match="the next pass begins from its start"):
            loader.load_state_dict(again.state_dict())
        list(inline)
        done, expected = inline.state_dict(), lists(inline)
        again.load_state_dict(done)
        assert lists(again) == expected


@pytest.mark.parametrize("method", [*multiprocessing.get_all_start_methods(), None])
def test_context_of_multiprocessing_uses_mpqueues_workers(method):
    context = multiprocessing.get_context(method)
    iterator = iter(DataLoader(Numbers(4), batch_size=2, num_workers=1, multiprocessing_context=context))
    assert type(iterator) is not _MultiProcessingDataLoaderIter
    assert lists(iterator) == [[0, 1], [2, 3]]


def test_a_loader_in_a_forked_child_works():
    loader = DataLoader(Numbers(4), batch_size=2, num_workers=1)
    assert status_of_fork(lambda: lists(loader) == [[0, 1], [2, 3]]) == 1


_ORDERS = {
    "shuffle": lambda _seed: {"shuffle": True},
    "own generator": lambda seed: {"shuffle": True, "generator": _own(seed)},
    "sampler with a generator": lambda seed: {"sampler": data.RandomSampler(Numbers(), generator=_own(seed))},
    "weighted": lambda _seed: {"sampler": data.WeightedRandomSampler([1.0] * 12, 12)},
    "in order": lambda _seed: {},
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", _ORDERS)
def test_states_of_equal_loaders_are_equal_and_hold_no_tensors(workers, order):
    def states():
        torch.manual_seed(3)
        loader = DataLoader(Numbers(), batch_size=4, num_workers=workers, **_ORDERS[order](3))
        yield loader.state_dict()
        batches = iter_after(loader, 1)
        yield loader.state_dict()
        list(batches)
        yield loader.state_dict()

    one, other = list(states()), list(states())
    assert one == other
    assert json.dumps(one) == json.dumps(other)
    assert one[0] != one[1] != one[2]


def test_dataset_that_is_shuffled_by_blocks_keeps_its_order():
    ordered = mpqueue.Dataset(list(range(12))).shuffle(block=3, blocks=2)
    found = lists(DataLoader(ordered, batch_size=6))
    assert sorted(found[0] + found[1]) == list(range(12)) and len({each // 3 for each in found[0]}) == 2
