"""Sources and functions as users write them. The product and the model call the same ones.

A function that draws does so in the order of ``kinds``: "r" `mpqueue.rng`, "p" `random`, "n" `numpy.random`.
"""

import functools
import itertools
import operator
import os
import random
import signal
import sys
import tempfile
import weakref
import zlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from helpers.coroutines import end_out_of_order
from model.elements import Cancelled
from model.numbers import drawn, is_model, of_held

import mpqueue


def digest(value, salt):
    """Return a number that looks random and depends on a value."""
    return zlib.crc32(repr(simple(value)).encode(), salt)


def simple(value):
    """Return ragged batches, and sparse rows and batches, as tuples, and arrays as lists, as the model has them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, mpqueue.Ragged):
        return "ragged", value.values.tolist(), value.offsets.tolist()
    if type(value).__module__.startswith("scipy.sparse"):
        return "csr", value.shape, value.data.tolist(), value.indices.tolist(), value.indptr.tolist()
    return type(value)(map(simple, value)) if type(value) in (tuple, list) else value


class Salted(NamedTuple):
    """A function that depends on a salt."""

    salt: int


class Hashed(Salted):
    """Map any value to a small number."""

    def __call__(self, value):
        return digest(value, self.salt) % 1000


class SaltedDraw(NamedTuple):
    """A function that depends on a salt and on random numbers."""

    salt: int
    kinds: str = "r"


class Drawing(NamedTuple):
    """Append random numbers; ``only`` draws for some values alone."""

    salt: int
    kinds: str = "r"
    only: int = 1

    def __call__(self, value):
        return (value, *drawn(self.kinds)) if digest(value, self.salt) % self.only == 0 else (value,)


class WithId(Salted):
    """Append the id of the sample."""

    def __call__(self, value, id):
        return value, id


class Raising(SaltedDraw):
    """Raise for some values, before or after a draw."""

    def __call__(self, value):
        numbers = drawn(self.kinds)
        if digest(value, self.salt) % 7 == 0:
            raise ERRORS[digest(value, self.salt) % len(ERRORS)](f"cannot take {simple(value)!r}")
        return value, *numbers


ERRORS = [ValueError, KeyError, RuntimeError, OSError, MemoryError, Cancelled]


class Kept(Salted):
    """Keep some values."""

    def __call__(self, value):
        return digest(value, self.salt) % 3 > 0


class KeptByDraw(SaltedDraw):
    """Keep a random half of the elements."""

    def __call__(self, value):
        return drawn(self.kinds)[0] < 500


class RaisingFilter(Salted):
    """Keep some values, and raise for others."""

    def __call__(self, value):
        if digest(value, self.salt) % 9 == 0:
            raise LookupError(f"no verdict for {simple(value)!r}")
        return digest(value, self.salt) % 9 > 3


class Early(Salted):
    """Accept values, except for a rare one."""

    def __call__(self, value):
        return digest(value, self.salt) % 29 > 0


class Items(SaltedDraw):
    """Return several items for each value, followed by an error for some."""

    def __call__(self, value):
        number = digest(value, self.salt)
        for item in range(number % 4):
            yield value, item, *drawn(self.kinds)
        if number % 11 == 0:
            raise LookupError(f"no more of {simple(value)!r}")


class BatchSamples(Salted):
    """Return a list of items."""

    def __call__(self, value):
        return [(value, item) for item in range(digest(value, self.salt) % 3)]


class Restarting(Salted):
    """Return an iterator that begins again in each ``__iter__``."""

    def __call__(self, value):
        return _Restarting([(value, item) for item in range(digest(value, self.salt) % 5)])


class _Restarting:
    def __init__(self, items):
        self._items = items

    def __iter__(self):
        self._left = iter(self._items)
        return self

    def __next__(self):
        return next(self._left)


class Running(Salted):
    """Return a running sum for `scan`, with a random number."""

    def __call__(self, state, value):
        if digest(value, self.salt) % 13 == 0:
            raise ArithmeticError(f"cannot add {simple(value)!r}")
        state += digest(value, self.salt) % 10
        return state, (value, state, *drawn("r"))


class Sized(Salted):
    """Return a length."""

    def __call__(self, value):
        return digest(value, self.salt) % 10


class Cost(Salted):
    """Return a cost by the id of a sample. Some are much larger than others, and many are equal."""

    def __call__(self, id):
        number = digest(id, self.salt)
        return number % 1000 if number % 7 == 0 else number % 10


class Sequence(Salted):
    """Map any value to a sequence of numbers, which may be empty."""

    def __call__(self, value):
        number = digest(value, self.salt)
        return [number % 100 + item for item in range(number % 7)]


class Swapped(Salted):
    """Map any value to an array of numbers, which may be empty, in a byte order that depends on the value."""

    def __call__(self, value):
        numbers = Sequence(self.salt)(value)
        return numbers if is_model() else np.array(numbers, "<>"[digest(value, self.salt) // 7 % 2] + "i8")


class Document(Salted):
    """Map any value to a sequence with fields that describe it as a whole: an array, and a name."""

    def __call__(self, value):
        number = digest(value, self.salt)
        tokens, part = Sequence(self.salt)(value), list(range(number % 10, number % 10 + number % 4))
        return {"tokens": tokens, "part": part, "name": f"document {number % 100}"}


class SparseRow(Salted):
    """Map any value to a sparse row."""

    def __call__(self, value):
        from scipy import sparse

        number = digest(value, self.salt)
        columns = [column for column in range(7) if number >> column & 1]
        values = [number % 100 + column for column in columns]
        row = sparse.csr_matrix((values, columns, [0, len(columns)]), shape=(1, 7), dtype=np.int64)
        return simple(row) if is_model() else row


class Collating(NamedTuple):
    """Make a batch: a tuple of the samples, with random numbers."""

    kinds: str = ""

    def __call__(self, samples):
        return (*samples, *drawn(self.kinds))


def stacked(samples):
    """Make a batch as the default collation does: arrays of numbers, tuples by field, lists of strings, rows as CSR."""
    if isinstance(samples[0], tuple) and samples[0][:1] == ("csr",):
        ends = itertools.accumulate((len(row[2]) for row in samples), initial=0)
        data, indices = ([each for row in samples for each in row[part]] for part in (2, 3))
        return "csr", (len(samples), samples[0][1][1]), data, indices, list(ends)
    if isinstance(samples[0], tuple):
        return tuple(stacked(list(column)) for column in zip(*samples, strict=True))
    return list(samples)


def ragged(samples):
    """Make a batch as ``collate="ragged"`` does: lists of numbers of any lengths, one after the other."""
    if not isinstance(samples[0], list):
        return stacked(samples)
    ends = itertools.accumulate(map(len, samples), initial=0)
    return "ragged", [each for sample in samples for each in sample], list(ends)


COLLATE = {stacked: None, ragged: "ragged"}  # the product receives these values instead of the functions


class Digits(NamedTuple):
    """Make an array of any value, or of the samples of a batch: every framework can convert it."""

    kinds: str = ""

    def __call__(self, value):
        values = value if isinstance(value, list) else [value]
        return np.array([*(digest(each, 0) % 1000 for each in values), *drawn(self.kinds)])


class Fatal(NamedTuple):
    """Call a function. For some values, first send this process a signal, once: if a file can be removed."""

    function: object
    salt: int
    mark: str
    signal: int = int(signal.SIGKILL)

    @property
    def kinds(self):
        return getattr(self.function, "kinds", "")

    def __call__(self, *given):
        if digest(given[0], self.salt) % 3 == 0 and not is_model():
            path = os.path.join(tempfile.gettempdir(), self.mark)
            try:
                with open(path) as file:
                    # A coroutine that a question has started may still run in the player itself.
                    if file.read() == str(os.getpid()):
                        return self.function(*given)
                os.remove(path)
            except FileNotFoundError:
                return self.function(*given)
            os.kill(os.getpid(), self.signal)
        return self.function(*given)


async def waits(value):
    """Wait for a number of steps that depends on a value; the model does not wait."""
    if not is_model():
        await end_out_of_order(digest(value, 0))


class InCoroutine(NamedTuple):
    """Call a function in a coroutine."""

    function: object

    @property
    def kinds(self):
        return getattr(self.function, "kinds", "")

    async def __call__(self, *given):
        await waits(given)
        return self.function(*given)


@dataclass(frozen=True)
class Samples:
    """A source with an index. Its samples draw; some raise, if ``raises``."""

    length: int
    kinds: str = "r"
    raises: bool = False

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        numbers = drawn(self.kinds)
        if self.raises and digest(index, 1) % 9 == 0:
            raise ERRORS[digest(index, 2) % len(ERRORS)](f"sample {index} is damaged")
        return index, *numbers


HELD = "held" + ".inner" * 7


@dataclass(frozen=True)
class Holding(Samples):
    """Its samples also draw from a generator in nested objects; ``path`` leads from the seeded object to here."""

    path: str = ""

    def __post_init__(self):
        held = functools.reduce(lambda inner, _: SimpleNamespace(inner=inner), range(7), random.Random(0))
        object.__setattr__(self, "held", held)

    def __getitem__(self, index):
        return *super().__getitem__(index), of_held(self.path + HELD, operator.attrgetter(HELD)(self))


class AtOnce(Samples):
    """A source that reads the samples of a batch in one call. Only the call as a whole draws."""

    def __getitems__(self, indices):
        numbers = drawn(self.kinds)
        return [(self[index][0], *numbers) for index in indices]


class InBlocks(AtOnce):
    """A source that also reads whole blocks."""

    def get_blocks(self, blocks):
        return ByPositions([self[index] for block in blocks for index in block])


class DrawnInBlocks(InBlocks):
    """Its samples draw if whole blocks are read: once for all of these blocks, and once for the samples of a request."""

    def __getitem__(self, index):
        return (index,)

    def __getitems__(self, indices):
        return [(index,) for index in indices]

    def get_blocks(self, blocks):
        return ByPositions([(index, *drawn(self.kinds)) for block in blocks for index in block], self.kinds)


class ByPositions:
    """Samples that are indexed by a list of places; with ``kinds``, the samples of a request draw."""

    def __init__(self, samples, kinds=""):
        self.samples, self.kinds = samples, kinds

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, positions):
        numbers = drawn(self.kinds)
        return [(*self.samples[position], *numbers) for position in positions]


class Awaiting(Samples):
    """Samples of coroutines."""

    async def __getitem__(self, index):
        await waits(index)
        return super().__getitem__(index)


class AwaitingAtOnce(Awaiting):
    """A coroutine reads the samples of a batch."""

    async def __getitems__(self, indices):
        numbers = drawn(self.kinds)
        return [((await self[index])[0], *numbers) for index in indices]


class Shuffling:
    """A sampler that shuffles with its own generators in each epoch; "a/b" is the attribute b of its attribute a."""

    def __init__(self, length, names=("generator",)):
        self.length, self.names = length, names
        for index, name in enumerate(names):
            *outer, inner = name.split("/")
            held = {inner: random.Random(length + index)}
            vars(self).update({outer[0]: SimpleNamespace(**held)} if outer else held)

    def __repr__(self):
        return f"Shuffling({self.length}, {self.names!r})"

    def __len__(self):
        return self.length

    def __iter__(self):
        keys = list(range(self.length))
        for name in self.names:
            functools.reduce(getattr, name.split("/"), self).shuffle(keys)
        return iter(keys)

    def in_epoch(self, epoch):
        """Return the order of an epoch: each one iterates the sampler once."""
        sampler = Shuffling(self.length, self.names)
        return [list(sampler) for _ in range(epoch + 1)][-1]


class Growing:
    """A source with a hook that changes its samples at the end of an epoch. Its state is the number of these epochs."""

    def __init__(self, length, ended=0):
        self.length, self.ended = length, ended

    def __repr__(self):
        return f"{type(self).__name__}({self.length})"

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.ended * 1000 + index, *drawn("r")

    def in_epoch(self, epoch):
        return Growing(self.length, epoch)

    def on_epoch_end(self):
        self.ended += 1

    def state_dict(self):
        return {"ended": self.ended}

    def load_state_dict(self, state):
        self.ended = state["ended"]


class Unseen(Growing):
    """Its number is in a file, so a comparison of the source does not show that it has changed."""

    constant = False

    def __init__(self, length):
        self.path = _file_of(self)
        super().__init__(length)

    @property
    def ended(self):
        with open(self.path) as file:
            return int(file.read())

    @ended.setter
    def ended(self, number):
        with open(self.path, "r+") as file:  # in place: a worker may read it now
            file.write(f"{number:9}")


def _file_of(owner):
    """Return the path of a file that exists as long as its owner."""
    handle, path = tempfile.mkstemp(prefix="mpqueue-model-")
    os.close(handle)
    weakref.finalize(owner, _remove, path, os.getpid()).atexit = False
    return path


def _remove(path, pid):
    if os.getpid() == pid:
        os.remove(path)


class Told:
    """Append a number in shared memory, which the program changes between two epochs; see `tell`."""

    living = weakref.WeakSet()

    def __init__(self):
        self.memory = np.memmap(_file_of(self), np.int64, "w+", shape=(1,))
        Told.living.add(self)

    def __repr__(self):
        return "Told()"

    def __call__(self, value):
        return value, int(self.memory[0])


def tell(number):
    for each in Told.living:
        each.memory[0] = number


class LateOrder:
    """It draws its order with the first sample, as iterators of images do. Each process would draw a different order.

    Its samples also depend on the command line, which workers have, too.
    """

    def __init__(self, length):
        self.length, self.index_array, self._pid = length, None, os.getpid()

    def __repr__(self):
        return f"{type(self).__name__}({self.length})"

    def __len__(self):
        return self.length

    def __set_index_array__(self):
        shift = 0 if is_model() else os.getpid() - self._pid
        self.index_array = [(number + shift) % self.length for number in range(self.length)]

    def __getitem__(self, index):
        if self.index_array is None:
            self.__set_index_array__()
        return self.index_array[index], len(sys.argv), *drawn("r")


class DroppingOrder(LateOrder):
    """It draws its order again in each epoch."""

    def in_epoch(self, _):
        return self

    def on_epoch_end(self):
        self.index_array = None

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Shared:
    """A function that returns the share of a lane."""

    def __call__(self):
        info = mpqueue.worker_info()
        return self.share(info.shard_id, info.num_shards)


@dataclass(frozen=True)
class Shards(Shared):
    """A generator function: the share of a lane."""

    length: int
    kinds: str = "r"

    def share(self, lane, lanes):
        for number in range(lane, self.length, lanes):
            yield number, *drawn(self.kinds)


@dataclass(frozen=True)
class StatefulShards(Shared):
    """The share of a lane, from an iterator that has a state and raises for some elements."""

    length: int
    salt: int = 3

    def share(self, lane, lanes):
        return _Stateful(self.length, self.salt, lane, lanes)


class _Stateful:
    def __init__(self, length, salt, lane, lanes):
        self._length, self._salt, self._step, self._at = length, salt, lanes, lane

    @property
    def is_over(self):
        return self._at >= self._length

    def __iter__(self):
        return self

    def __next__(self):
        if self.is_over:
            raise StopIteration
        at, self._at = self._at, self._at + self._step
        if digest(at, self._salt) % 9 == 0:
            raise OSError(f"cannot read {at}")
        return at

    def state_dict(self):
        return {"at": self._at}

    def load_state_dict(self, state):
        self._at = state["at"]
