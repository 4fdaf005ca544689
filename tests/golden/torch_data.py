"""The datasets, samplers and functions that the cases of the topic torch name; each is sent to worker processes."""

import builtins
import collections
import os
import random
import time

import numpy as np
import torch
from torch.utils import data

Point = collections.namedtuple("Point", ["x", "y"])  # noqa: PYI024 - what programs have


class Odd(Exception):
    """An exception that cannot be made again out of its text."""

    def __init__(self, number, text):
        super().__init__(f"{text}: {number}")


def _error(name, item):
    if name == "Odd":
        return Odd(item, "no such item")
    return getattr(builtins, name)(f"item {item}")


class Items:
    """What all the datasets have: items of a kind, counted, slow, or failing.

    Args:
        case: The case's description of the dataset.
        log: A file that gets one byte for each item that is asked for.
    """

    def __init__(self, case, log):
        self.n = case.get("n", 10)
        self.gives = case.get("gives", "index")
        self.value, self.calls = case.get("value", 0), 0
        self.raise_at = {int(item): name for item, name in case.get("raise_at", {}).items()}
        self.sleep_at = {int(item): seconds for item, seconds in case.get("sleep_at", {}).items()}
        self.log = log if case.get("counted") else None
        self.trainer = os.getpid()

    def give(self, item):
        if self.log is not None:
            with open(self.log, "ab", buffering=0) as log:
                log.write(b".")
        self.calls += 1
        time.sleep(self.sleep_at.get(item, 0))
        if item in self.raise_at:
            raise _error(self.raise_at[item], item)
        return GIVES[self.gives](self, item)


def info_in(dataset, _item):
    info = data.get_worker_info()
    if info is None:
        return None
    return info.id, info.num_workers, isinstance(info.seed, int), type(info.dataset).__name__, info.dataset is dataset


GIVES = {
    "index": lambda of, item: item,
    "value": lambda of, item: 1000 * of.value + item,
    "calls": lambda of, item: of.calls,
    "vector": lambda of, item: torch.full((3,), float(item)),
    "array": lambda of, item: np.full((2, 2), item, np.float32),
    "pair": lambda of, item: (np.array([item, item + 1, item + 2], np.float32), item % 3),
    "in trainer": lambda of, item: int(os.getpid() == of.trainer),
    "drawn": lambda of, item: (torch.rand(()).item(), float(np.random.random()), random.random()),
    "info": info_in,
}


class NoLength(Items, data.Dataset):
    """Map style, without a length."""

    def __getitem__(self, item):
        return self.give(item)


class Numbers(NoLength):
    """Map style."""

    def __len__(self):
        return self.n


class Batched(Numbers):
    """With `__getitems__`."""

    def __init__(self, case, log):
        super().__init__(case, log)
        self.marked, self.short = case.get("marked"), case.get("short")

    def __getitems__(self, items):
        given = [self.give(item) for item in items]
        if self.marked:
            given = [(type(items).__name__, len(items), item) for item in given]
        return given[:-1] if self.short else given


class Stream(Items, data.IterableDataset):
    """Iterable style."""

    def __init__(self, case, log):
        super().__init__(case, log)
        self.shard = case.get("shard")

    def __iter__(self):
        for item in self._numbers():
            yield self.give(item)

    def _numbers(self):
        info = data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if self.shard == "stride":
            return range(worker, self.n, workers)
        if self.shard == "first":
            return range(self.n) if worker == 0 else range(0)
        if self.shard == "more":
            return range(100 * worker, 100 * worker + self.n * (worker + 1))
        return range(self.n)


class SizedStream(Stream):
    """Iterable style, with a length, which may be wrong."""

    def __init__(self, case, log):
        super().__init__(case, log)
        self.says = case.get("says", self.n)

    def __len__(self):
        return self.says


class Listed(data.Dataset):
    """The items of the case."""

    def __init__(self, items):
        self.items = items

    def __getitem__(self, item):
        return self.items[item]

    def __len__(self):
        return len(self.items)


CLASSES = {kind.__name__: kind for kind in (Numbers, NoLength, Batched, Stream, SizedStream)}


def make_dataset(case, log, decode):
    """The dataset that a case describes; ``decode`` makes Python values of its items."""
    kind = case["kind"]
    if kind in CLASSES:
        return CLASSES[kind](case, log)
    if kind in {"Listed", "list"}:
        items = [decode(item) for item in case["items"]]
        return items if kind == "list" else Listed(items)
    if kind == "range":
        return range(case["n"])
    if kind == "TensorDataset":
        return data.TensorDataset(*map(decode, case["tensors"]))
    of = case["of"]
    if kind == "ConcatDataset":
        return data.ConcatDataset([make_dataset(part, log, decode) for part in of])
    if kind == "StackDataset":
        return data.StackDataset(**{name: make_dataset(part, log, decode) for name, part in of.items()})
    assert kind == "Subset", kind
    return data.Subset(make_dataset(of, log, decode), case["indices"])


class Counted:
    """A sampler that counts how often it was begun, and what was drawn from it."""

    def __init__(self, case):
        self.values, self.endless = case["values"], case.get("endless")
        self.raise_at = case.get("raise_at")
        self.begun = self.drawn = 0

    def __iter__(self):
        self.begun += 1
        while True:
            for index, value in enumerate(self.values):
                if index == self.raise_at:
                    raise LookupError("no more numbers")
                self.drawn += 1
                yield value
            if not self.endless:
                return


class SizedCounted(Counted):
    """The same, with a length."""

    def __len__(self):
        return len(self.values)


def make_sampler(case, dataset):
    """A list as it is, `Counted`, or one of torch's samplers."""
    if not isinstance(case, dict):
        return case
    if case["kind"] == "Counted":
        return (Counted if case.get("unsized") or case.get("endless") else SizedCounted)(case)
    kind = getattr(data, case["kind"], None) or getattr(data.distributed, case["kind"])
    args = case.get("args", {})
    if "of" in case:
        return kind(make_sampler(case["of"], dataset), **args)
    if case["kind"] in {"WeightedRandomSampler", "SubsetRandomSampler"}:
        return kind(**args)
    return kind(dataset, **args)


def as_array(items):
    return np.array([[item, item] for item in items], np.int16)


def as_mixed(items):
    return {
        "n": len(items),
        "of": torch.tensor(items),
        "names": [f"<{item}>" for item in items],
        "none": None,
        "nested": (np.array(items, np.float64), {"last": items[-1]}),
    }


def as_padded(items):
    return torch.nn.utils.rnn.pad_sequence([torch.arange(item + 1) for item in items], batch_first=True)


def twice(item):
    return 2 * item


def no_fives(items):
    if any(item and item % 5 == 0 for item in items):
        raise ArithmeticError(f"a five among {items[0]}...")
    return data.default_collate(items)


def set_value(_worker):
    data.get_worker_info().dataset.value = 7


def fail(worker):
    raise LookupError(f"cannot begin {type(worker).__name__}")


FUNCTIONS = {"as_list": list, "as_sum": sum}
FUNCTIONS |= {each.__name__: each for each in (as_array, as_mixed, as_padded, twice, no_fives, set_value, fail)}
