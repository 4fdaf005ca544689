"""Exceptions of signal handlers in torch's frontend: batches are not lost silently, and not repeated."""

import contextlib
import itertools
import random
import re
import signal

import numpy as np
import pytest
import torch
from helpers import injected_exceptions
from helpers.engine_parts import session_of
from helpers.finalizers import end_interrupted
from helpers.injected_exceptions import Strike, Struck
from torch.utils import data

import mpqueue
from mpqueue.frameworks.torch import inline, pass_reader
from mpqueue.loader.session import Session
from mpqueue.torch import DataLoader

# The draw from the sampler.
STRUCK_FILES = re.compile(r"frameworks/torch/(order/)?\w+\.py|plan/position/cursors\.py")
BATCHES = [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.fixture
def raises():
    """Return a function that sends a signal; its handler raises a TimeoutError."""

    def handle(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, handle)
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


class Samples(data.Dataset):
    """The numbers from 0 to 7; the first request of one number raises or interrupts."""

    def __init__(self, strike=None, at=3):
        self.strike, self.at = strike, at

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == self.at and self.strike is not None:
            strike, self.strike = self.strike, None
            strike()
        return index


def error():
    raise ValueError


def taken(batches):
    """Return the batches and the types of exceptions of an iterator."""
    found = []
    while True:
        try:
            found.append(next(batches).tolist())
        except StopIteration:
            return found
        except (Struck, TimeoutError, ValueError) as raised:
            found.append(type(raised))


def resumed(loader):
    """Return the batches of a new loader that resumes from the state of this loader."""
    other = DataLoader(Samples(), batch_size=2)
    other.load_state_dict(loader.state_dict())
    return [batch.tolist() for batch in other]


@pytest.mark.parametrize(("kind", "num_over"), [(TimeoutError, 1), (ValueError, 2)], ids=["interrupt", "error"])
def test_item_without_workers_loses_its_batch_by_an_error_and_not_by_an_interrupt(raises, kind, num_over):
    loader = DataLoader(Samples(raises if kind is TimeoutError else error), batch_size=2)
    batches = iter(loader)
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(kind):
        next(batches)
    assert resumed(loader) == BATCHES[num_over:]
    assert taken(batches) == BATCHES[num_over:]


def test_interrupt_anywhere_without_workers_loses_no_batch():
    for after in itertools.count(1):
        loader = DataLoader(Samples(), batch_size=2)
        batches, found = iter(loader), []
        with (strike := Strike(after)), contextlib.suppress(Struck):
            found += [next(batches).tolist() for _ in range(2)]
        if strike.left > 0:
            break
        left = resumed(loader)
        assert len(left) >= 2
        assert left == BATCHES[4 - len(left) :]
        assert [batch.tolist() for batch in batches] == left


class StatefulNumbers(data.IterableDataset):
    """The numbers below 8; its state is the position of its iterator."""

    at = 0

    def __iter__(self):
        while self.at < 8:
            self.at += 1
            yield self.at - 1

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_state_after_an_interrupt_in_a_stream_without_workers_skips_no_batch():
    """The dataset reports a position after a batch that was computed but not returned; the state must not."""
    for after in itertools.count(1):
        loader = DataLoader(StatefulNumbers(), batch_size=2)
        num_returned = 0
        with (strike := Strike(after)), contextlib.suppress(Struck):
            for _ in loader:
                num_returned += 1
                if num_returned == 2:
                    break
        if strike.left > 0:
            break
        other = DataLoader(StatefulNumbers(), batch_size=2)
        other.load_state_dict(loader.state_dict())
        assert [batch.tolist() for batch in other] == BATCHES[num_returned:]


class Order(data.Sampler):
    """The numbers below 32 in one order after the other; the first one is interrupted at the 24th number."""

    def __init__(self, strike, orders):
        self.strikes, self.orders = [strike], orders

    def __len__(self):
        return 32

    def __iter__(self):
        order = next(self.orders)
        yield from order[:24]
        if self.strikes:
            self.strikes.pop()()
        yield from order[24:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_sampler_ended_by_an_interrupt_begins_again_where_the_pass_is(raises, num_workers):
    orders = itertools.repeat(list(range(32)))
    loader = DataLoader(range(32), batch_size=2, sampler=Order(raises, orders), num_workers=num_workers)
    batches, found, raised = iter(loader), [], []
    while len(found) < 16:
        try:
            found.append(next(batches).tolist())
        except TimeoutError as error:
            raised.append(type(error))
    assert found == [[number, number + 1] for number in range(0, 32, 2)]
    assert raised == [TimeoutError]
    assert next(batches, None) is None


@pytest.mark.parametrize("num_workers", [0, 1])
def test_sampler_that_returns_other_indices_again_does_not_end_the_pass(raises, num_workers):
    orders = map(list, itertools.accumulate(itertools.repeat([*range(32)]), lambda order, _: order[1:] + order[:1]))
    batches = iter(DataLoader(range(32), batch_size=2, sampler=Order(raises, orders), num_workers=num_workers))
    found, raised = [], []
    while raised.count(RuntimeError) < 2:
        try:
            found.append(next(batches).tolist())
        except (TimeoutError, RuntimeError) as error:
            raised.append(type(error))
    assert found == [[number, number + 1] for number in range(0, 24, 2)]
    assert raised == [TimeoutError, RuntimeError, RuntimeError]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_interrupt_anywhere_in_a_random_order_changes_neither_the_order_nor_the_state(num_workers, monkeypatch):
    """At each place of the draw; the workers' side is left alone, which takes long to strike."""
    monkeypatch.setattr(injected_exceptions, "is_ours", lambda frame: STRUCK_FILES.search(frame.f_code.co_filename))
    monkeypatch.setattr(injected_exceptions, "_tables", {})

    def make():
        generator = torch.Generator()
        generator.manual_seed(3)
        return DataLoader(Samples(), batch_size=2, shuffle=True, generator=generator, num_workers=num_workers)

    wanted, least = [batch.tolist() for batch in make()], 20
    for after in itertools.count(1):
        loader, found = make(), []
        batches = iter(loader)
        with (strike := Strike(after)), contextlib.suppress(Struck):
            while len(found) < 3:
                found.append(next(batches).tolist())
        if strike.left > 0:
            break
        other = make()
        other.load_state_dict(loader.state_dict())
        assert [batch.tolist() for batch in other] == wanted[len(found) :], after
        assert found + [batch.tolist() for batch in batches] == wanted, after
    assert after > least


@pytest.mark.parametrize("kind", ["sampler", "stream"])
def test_second_interrupt_during_the_check_does_not_end_the_pass(raises, kind, monkeypatch):
    """The check itself may be interrupted before the pass is marked as broken."""

    signals = [raises]

    def numbers():
        yield from range(3)
        if signals:
            signals.pop()()
        yield from range(3, 8)

    class Order(data.Sampler):
        def __iter__(self):
            return numbers()

    class Stream(data.IterableDataset):
        def __iter__(self):
            return numbers()

    def strike_once(_error):
        monkeypatch.undo()
        raise Struck

    loader = DataLoader(range(8), batch_size=2, sampler=Order()) if kind == "sampler" else DataLoader(Stream(), 2)
    batches = iter(loader)
    assert next(batches).tolist() == [0, 1]
    monkeypatch.setattr(inline, "is_interrupt", strike_once)
    with pytest.raises(Struck):
        next(batches)
    if kind == "sampler":
        assert [batch.tolist() for batch in batches] == BATCHES[1:]
    else:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="an interrupt arrived"):
                next(batches)
    assert next(iter(loader)).tolist() == [0, 1]


def test_exception_of_a_handler_is_raised_while_a_stream_returns_to_its_place(raises):
    class Stream(data.IterableDataset):
        strikes_at = None

        def __iter__(self):
            for number in range(8):
                if number == self.strikes_at:
                    raises()
                yield number

    first, second = DataLoader(Stream(), batch_size=2), DataLoader(Stream(), batch_size=2)
    batches = iter(first)
    next(batches), next(batches)
    second.load_state_dict(first.state_dict())
    second.dataset.strikes_at = 1
    with pytest.raises(TimeoutError):
        iter(second)


class Drawing:
    """A dataset that draws from all global generators."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.array([index, random.random(), np.random.random(), torch.rand(()).item()])


def state_of_globals():
    _, keys, position, *_ = np.random.get_state()
    return random.getstate(), bytes(keys), position, torch.get_rng_state().tolist()


@pytest.mark.parametrize(
    "make", [Drawing, lambda: mpqueue.Dataset(Drawing()).filter(lambda numbers: True)], ids=["index", "stages"]
)
def test_seeded_loop_without_workers_keeps_its_numbers_after_an_interrupt(make):
    changed = []
    for after in itertools.count(1, 11):
        # A new loader, because positions differ after an interrupt.
        with mpqueue.Loader(make(), workers=0, seed=5) as loader:
            batches, before = iter(loader), state_of_globals()
            with contextlib.suppress(Struck), Strike(after) as strike:
                next(batches)
            if state_of_globals() != before:
                changed.append(after)
        if strike.left > 0:
            break
    assert after > 100
    assert changed == []


def test_interrupt_while_an_iterator_is_collected_is_raised_after_its_workers_are_stopped(monkeypatch):
    loader = DataLoader(Samples(), batch_size=2, num_workers=1)
    iterators = [iter(loader)]
    next(iterators[0])
    session = session_of(iterators[0])
    end_interrupted(monkeypatch, Session, "stop", iterators.clear)
    assert session.ended.is_set()


def pinning(loader, monkeypatch, pin):
    """Return the iterator of a pass that pins its batches by a function, without a GPU."""
    monkeypatch.setattr(pass_reader.torch_pinning, "pin_memory", lambda batch, _device: pin(batch))
    batches = iter(loader)
    monkeypatch.setattr(batches.reader, "reading", batches.reader.reading._replace(pins=True))
    batches.reader.holds = False
    return batches


@pytest.mark.parametrize(("kind", "num_over"), [(TimeoutError, 1), (ValueError, 2)], ids=["interrupt", "error"])
def test_batch_is_lost_by_an_error_while_it_is_pinned_and_not_by_an_interrupt(raises, kind, num_over, monkeypatch):
    calls = [lambda: None, raises if kind is TimeoutError else error]

    def pin(batch):
        if calls:
            calls.pop(0)()
        return batch

    loader = DataLoader(Samples(), batch_size=2, num_workers=1)
    batches = pinning(loader, monkeypatch, pin)
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(kind):
        next(batches)
    assert resumed(loader) == BATCHES[num_over:]
    assert taken(batches) == BATCHES[num_over:]


def test_interrupt_anywhere_while_a_batch_is_pinned_loses_and_repeats_none(monkeypatch):
    monkeypatch.setattr(
        injected_exceptions,
        "is_ours",
        lambda frame: frame.f_code.co_filename.endswith(("torch/iterator.py", "torch/pass_reader.py")),
    )
    monkeypatch.setattr(injected_exceptions, "_tables", {})
    for after in itertools.count(1):
        loader, found = DataLoader(Samples(), batch_size=2, num_workers=1), []
        batches = pinning(loader, monkeypatch, torch.Tensor.clone)
        with (strike := Strike(after)), contextlib.suppress(Struck):
            while len(found) < 3:
                found.append(next(batches).tolist())
        if strike.left > 0:
            break
        assert resumed(loader) == BATCHES[len(found) :], after
        assert found + taken(batches) == BATCHES, after
    assert after > 10


def test_error_of_a_sample_is_raised_once_while_batches_are_pinned(monkeypatch):
    loader = DataLoader(Samples(error), batch_size=2, num_workers=1)
    assert taken(pinning(loader, monkeypatch, torch.Tensor.clone)) == [[0, 1], ValueError, [4, 5], [6, 7]]
