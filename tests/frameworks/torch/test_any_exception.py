"""Exceptions of any kind in a dataset: their class reaches the training loop, and they replace one batch."""

import threading

import pytest
import torch
from helpers.computed_source import Computed
from helpers.unusual_exceptions import AT, BASES, LENGTH, MISBEHAVING, Counting, Raises, taken

import mpqueue.torch

WANTED = list(range(LENGTH))


class Iterable(torch.utils.data.IterableDataset):
    def __init__(self, function):
        self.function = function

    def __iter__(self):
        return Counting(self.function)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("make_dataset", [lambda f: Computed(f, LENGTH), Iterable], ids=["map", "iterable"])
@pytest.mark.parametrize("kind", ["frozen", "opaque", "cancelled", "generator exit", "own"])
def test_any_exception_replaces_one_batch(kind, make_dataset, num_workers):
    kind = (MISBEHAVING | BASES)[kind]
    loader = mpqueue.torch.DataLoader(make_dataset(Raises(kind)), batch_size=None, num_workers=num_workers)
    assert taken(iter(loader).__next__) == [*WANTED[:AT], kind, *WANTED[AT + 1 :]]


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


UNPICKLABLE = {
    "lock": (lambda: OSError("cannot read", threading.Lock()), OSError),
    "long": (lambda: ValueError("x" * (2 << 20)), ValueError),
    "key": (lambda: KeyError(threading.Lock()), KeyError),
    "two arguments": (lambda: TwoArguments("one", threading.Lock()), RuntimeError),
    "exit": (lambda: SystemExit(3), RuntimeError),
    "base": (lambda: BASES["own"](threading.Lock()), RuntimeError),
}


@pytest.mark.parametrize(("make", "kind"), UNPICKLABLE.values(), ids=UNPICKLABLE)
def test_exception_with_unpicklable_arguments_keeps_its_class_as_in_torch(make, kind):
    loader = mpqueue.torch.DataLoader(Computed(Raises(lambda _: make()), LENGTH), batch_size=None, num_workers=1)
    batches, name = iter(loader), type(make()).__name__
    found = [int(next(batches)) for _ in range(AT)]
    with pytest.raises(kind, match=f"Caught .*{name}") as caught:
        next(batches)
    found += [int(batch) for batch in batches]
    assert found == WANTED[:AT] + WANTED[AT + 1 :]
    assert type(caught.value) is kind
    assert "in __call__" in str(caught.value.__cause__)
