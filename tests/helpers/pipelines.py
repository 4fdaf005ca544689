"""Datasets made up by hypothesis, and what each of their lanes gives, by plain Python.

`lane_of` is the model: generators around generators, one element at a time, with no blocks, no snapshots, and no
positions. An indexed part is computed place by place, which has tests of its own.
"""

import itertools
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset import nodes
from mpqueue.dataset.indexed import IndexedRun, ReaderMaker
from mpqueue.dataset.mixing import Shares, shuffled
from mpqueue.dataset.passes import share_of
from mpqueue.dataset.rows import BestFit, Concatenation, Piece
from mpqueue.seeding.picks import Picks
from mpqueue.seeding.seeds import place_of
from mpqueue.worker.lanes import LaneRun


class Failed(NamedTuple):
    """An error in the place of an element."""

    kind: str
    text: str


# -- The model


def lane_of(node: nodes.StageNode, run: LaneRun) -> Any:
    """Yield pairs of token and value, and `Failed` where an error takes the place of an element."""
    if node.is_indexed:
        reader = ReaderMaker(nodes.lengths_of(node)).make(node)
        read = IndexedRun(run.seed, run.epoch, run.begin, run.base)
        length = reader.length
        places = itertools.count(run.lane, run.num_lanes) if length is None else range(run.lane, length, run.num_lanes)
        for place in places:
            yield attempt(lambda place=place: (place, reader.at([place], read)[0]))
    else:
        yield from _MODELS[type(node)](node, run)


def attempt(compute):
    """Return what is computed, or what takes its place."""
    try:
        return compute()
    except Exception as error:
        return Failed(type(error).__name__, str(error))


def called(node, run, token, value):
    """Call the function of a stage with the random numbers of an element."""
    run.begin(nodes.salted(run.seed, run.base + node.number), run.epoch, place_of(token))
    return node.function(value)


def _stream(node, run):
    begin = nodes.salted(run.seed, run.base + node.number), run.epoch
    run.begin(*begin, run.lane)
    elements = iter(node.source())
    for place in itertools.count(run.lane, run.num_lanes):
        run.begin(*begin, place)
        try:
            value = next(elements)
        except StopIteration:
            return
        except Exception as error:
            yield Failed(type(error).__name__, str(error))
        else:
            yield place, value


def _map(node, run):
    for one in lane_of(node.input, run):
        yield one if isinstance(one, Failed) else attempt(lambda one=one: (one[0], called(node, run, *one)))


def _filter(node, run):
    for one in lane_of(node.input, run):
        verdict = one if isinstance(one, Failed) else attempt(lambda one=one: called(node, run, *one))
        if isinstance(verdict, Failed):
            yield verdict
        elif verdict:
            yield one


def _flat_map(node, run):
    for one in lane_of(node.input, run):
        items = one if isinstance(one, Failed) else attempt(lambda one=one: called(node, run, *one))
        if isinstance(items, Failed):
            yield items
            continue
        items = iter(items)
        for number in itertools.count():
            of = one[0], number
            run.begin(nodes.salted(run.seed, run.base + node.number), run.epoch, place_of(of))
            found = attempt(lambda of=of, items=items: (of, next(items)))
            if found == Failed("StopIteration", ""):
                break
            yield found
            if isinstance(found, Failed):
                break


def _shuffle(node, run):
    picks, held = Picks(nodes.salted(run.seed, run.base + node.number), run.epoch, run.lane), []
    number = 0
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
        elif len(held) < node.buffer:
            held.append(one)
        else:
            (pick,) = picks.take(number, 1, node.buffer)
            number += 1
            yield held[pick]
            held[pick] = one
    for at in reversed(picks.order(len(held))):
        yield held[at]


def _batch(node, run):
    held = []
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
        else:
            held.append(one)
            if len(held) == node.size:
                yield _batched(node, run, held)
                held = []
    if held and not node.drop_last:
        yield _batched(node, run, held)


def _batched(node, run, held):
    tokens, values = zip(*held, strict=True)
    run.begin(nodes.salted(run.seed, run.base + node.number), run.epoch, place_of(tokens[0]))
    return attempt(lambda: (tokens, node.collate(list(values))))


def _bucket(node, run):
    held = [[] for _ in range(len(node.boundaries) + 1)]
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
            continue
        length = node.length_of(one[1])
        at = bisect_right(node.boundaries, length)
        if node.batch_sizes is not None:
            size = node.batch_sizes[at]
        elif at < len(node.boundaries):
            size = max(1, node.max_tokens // node.boundaries[at])
        else:
            size = node.max_tokens // max(1, length, *[node.length_of(value) for _, value in held[at]])
            if len(held[at]) >= size:
                yield _batched(node, run, held[at])
                held[at], size = [], node.max_tokens // max(1, length)
        held[at].append(one)
        if len(held[at]) >= size:
            yield _batched(node, run, held[at])
            held[at] = []
    for left in held:
        if left and not node.drop_last:
            yield _batched(node, run, left)


def _pack(node, run):
    best_fit = node.strategy == "best_fit"
    filler = BestFit(node.row_length, node.bins) if best_fit else Concatenation(node.row_length)
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
            continue
        token, numbers = one
        left = Piece(token, 0, len(numbers), (np.asarray(numbers),))
        if not numbers or (len(numbers) > node.row_length and node.long == "drop"):
            continue
        while left is not None:
            row, left = filler.add(left)
            if row is not None:
                yield _packed(node, row)
    for row in filler.finish():
        yield _packed(node, row)


def _packed(node, row):
    """A row that is made number by number."""
    numbers = [(int(piece.fields[0][at]), segment, at) for segment, piece in enumerate(row, 1)
               for at in range(piece.stop - piece.start)]  # fmt: skip
    numbers += [(0, 0, 0)] * (node.row_length - len(numbers))
    names = "tokens", "segment_ids", "positions"
    arrays = dict(zip(names, map(np.array, zip(*numbers, strict=True)), strict=True))
    return tuple((piece.token, piece.start, piece.stop) for piece in row), arrays


def _take(node, run):
    left = share_of(node.count, run)
    for one in lane_of(node.input, run) if left else ():
        yield one
        left -= not isinstance(one, Failed)
        if not left:
            return


def _skip(node, run):
    left = share_of(node.count, run)
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
        elif left:
            left -= 1
        else:
            yield one


def _enumerate(node, run):
    places = itertools.count(run.lane, run.num_lanes)
    for one in lane_of(node.input, run):
        if isinstance(one, Failed):
            yield one
        else:
            place = next(places)
            yield (place, one[0]), (place, one[1])


def _repeat(node, run):
    for number in itertools.count() if node.times is None else range(node.times):
        inner = run._replace(epoch=nodes.inner_epoch(run.epoch, number, node.times))
        has_given = False
        for one in lane_of(node.input, inner):
            has_given |= not isinstance(one, Failed)
            yield one if isinstance(one, Failed) else ((number, one[0]), one[1])
        if node.times is None and not has_given:
            return


def _cache(node, run):
    """What is before it is always in epoch 0 of seed 0; nothing is kept here."""
    numbers = itertools.count()
    for one in lane_of(node.input, run._replace(seed=0, epoch=0)):
        yield one if isinstance(one, Failed) else ((next(numbers), one[0]), one[1])


def branches_of(node, run):
    """Return the inputs of a stage with their runs: their stages are numbered one after the other."""
    starts = itertools.accumulate((1 + branch.number for branch in node.branches), initial=run.base)
    return [(branch, run._replace(base=start)) for branch, start in zip(node.branches, starts, strict=False)]


def _zip(node, run):
    branches = [lane_of(*branch) for branch in branches_of(node, run)]
    while True:
        row = []
        for branch in branches:
            for one in branch:
                if not isinstance(one, Failed):
                    break
                yield one
            else:
                return
            row.append(one)
        yield tuple(token for token, _ in row), tuple(value for _, value in row)


def _concatenate(node, run):
    for number, branch in enumerate(branches_of(node, run)):
        for one in lane_of(*branch):
            yield one if isinstance(one, Failed) else ((number, one[0]), one[1])


def _mix(node, run):
    shares = Shares(node.weights)
    branches = [_Pass(*branch, node.stop) for branch in branches_of(node, run)]
    used = [branch for branch, weight in zip(branches, node.weights, strict=True) if weight > 0]
    for block in itertools.count():
        seed = nodes.salted(run.seed, run.base + node.number)
        for at in shuffled(shares.datasets(block), seed, run.epoch, run.lane, block).tolist():
            while isinstance(one := branches[at].next(), Failed):
                yield one
            if node.stop == "first" and one is None:
                return
            if node.stop == "all" and all(branch.number for branch in used):
                return
            if node.stop == "never" and all(branch.is_empty for branch in used):
                return
            if one is not None:
                yield (at, one[0]), one[1]


class _Pass:
    """An input of a mix, which begins anew unless it ends with the first."""

    def __init__(self, node, run, stop):
        self.node, self.run, self.stop = node, run, stop
        self.number, self.is_empty, self.has_given = 0, False, False
        self.elements = self.open()

    def open(self):
        if self.stop == "first":
            return lane_of(self.node, self.run)
        return lane_of(self.node, self.run._replace(epoch=nodes.inner_epoch(self.run.epoch, self.number, None)))

    def next(self):
        while not self.is_empty:
            one = next(self.elements, None)
            if isinstance(one, Failed) or (self.stop == "first" and (one is None or one)):
                return one
            if one is not None:
                self.has_given = True
                return (self.number, one[0]), one[1]
            self.number += 1
            self.is_empty = not self.has_given
            self.has_given = False
            self.elements = self.open()
        return None


_MODELS = {
    nodes.StreamNode: _stream,
    nodes.MapNode: _map,
    nodes.FilterNode: _filter,
    nodes.FlatMapNode: _flat_map,
    nodes.ShuffleNode: _shuffle,
    nodes.BatchNode: _batch,
    nodes.BucketNode: _bucket,
    nodes.PackNode: _pack,
    nodes.TakeNode: _take,
    nodes.SkipNode: _skip,
    nodes.EnumerateNode: _enumerate,
    nodes.RepeatNode: _repeat,
    nodes.CacheNode: _cache,
    nodes.ZipNode: _zip,
    nodes.ConcatenateNode: _concatenate,
    nodes.MixNode: _mix,
}


def model_of(dataset, run: LaneRun, count: int | None = None) -> list:
    """Return what a lane gives, its first elements if a count is given: values, and `Failed` for errors."""
    elements = itertools.islice(_epochs(dataset, run) if run.endless else lane_of(dataset.root, run), count)
    return [one if isinstance(one, Failed) else one[1] for one in elements]


def _epochs(dataset, run):
    """One epoch behind the other, until one gives nothing."""
    for epoch in itertools.count(run.epoch):
        has_given = False
        for one in lane_of(dataset.root, run._replace(epoch=epoch)):
            has_given |= not isinstance(one, Failed)
            yield one
        if not has_given:
            return


# -- Functions of the user's, which may be pickled


def digest(value: Any, salt: int) -> int:
    """Return a number that looks random and follows from a value."""
    return zlib.crc32(repr(value).encode(), salt)


class Mixed(NamedTuple):
    """Makes a number of anything."""

    salt: int

    def __call__(self, value):
        return digest(value, self.salt) % 1000


class Drawn(NamedTuple):
    """Adds a random number."""

    salt: int

    def __call__(self, value):
        return value, int(mpqueue.rng().integers(1000))


class Sized(NamedTuple):
    """The length of a value, as a bucket asks for it."""

    salt: int

    def __call__(self, value):
        return digest(value, self.salt) % 10


class Numbers(NamedTuple):
    """Makes a sequence of anything."""

    salt: int

    def __call__(self, value):
        number = digest(value, self.salt)
        return [number % 100 + item for item in range(number % 7)]


def rows_plain(row):
    """A row of pack as tuples."""
    return tuple(tuple(row[name].tolist()) for name in ("tokens", "segment_ids", "positions"))


class Raising(NamedTuple):
    """Raises for some values."""

    salt: int

    def __call__(self, value):
        if digest(value, self.salt) % 5 == 0:
            raise ValueError(f"cannot take {value!r}")
        return value


class Kept(NamedTuple):
    """Keeps some values."""

    salt: int

    def __call__(self, value):
        return digest(value, self.salt) % 3 > 0


class KeptByDraw(NamedTuple):
    """Keeps half of all elements."""

    salt: int

    def __call__(self, value):
        return mpqueue.rng().random() < 0.5


class RaisingFilter(NamedTuple):
    """Keeps some values, and raises for others."""

    salt: int

    def __call__(self, value):
        if digest(value, self.salt) % 7 == 0:
            raise KeyError("no verdict")
        return np.bool_(digest(value, self.salt) % 7 > 2)


class Copies(NamedTuple):
    """Some items for each value, and an error behind some of them."""

    salt: int

    def __call__(self, value):
        number = digest(value, self.salt)
        for item in range(number % 4):
            yield value, item, int(mpqueue.rng().integers(100))
        if number % 11 == 0:
            raise LookupError(f"no more of {value!r}")


@dataclass(frozen=True)
class Shards:
    """A generator function's elements: the lane's share of a range."""

    length: int

    def __call__(self):
        info = mpqueue.worker_info()
        for number in range(info.shard_id, self.length, info.num_shards):
            yield number, int(mpqueue.rng().integers(100))


@dataclass(frozen=True)
class StatefulShards:
    """The same, by an iterator that tells its state, and raises for some elements."""

    length: int

    def __call__(self):
        return _StatefulIterator(self.length)


class _StatefulIterator:
    def __init__(self, length):
        info = mpqueue.worker_info()
        self.length, self.step, self.at = length, info.num_shards, info.shard_id

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= self.length:
            raise StopIteration
        self.at += self.step
        if digest(self.at, 3) % 9 == 0:
            raise OSError(f"cannot read {self.at}")
        return self.at

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


# -- Strategies

_SALTS = st.integers(0, 50)
_LENGTHS = st.one_of(st.integers(0, 20), st.integers(60, 200))


def _with(function):
    return st.builds(lambda salt: function(salt), _SALTS)


_THREADS = st.sampled_from([1, 1, 2])
_LINKS = [
    st.builds(lambda f, threads: ("map", f, threads), st.one_of(*map(_with, (Mixed, Drawn, Raising))), _THREADS),
    st.builds(
        lambda f, threads: ("filter", f, threads), st.one_of(*map(_with, (Kept, KeptByDraw, RaisingFilter))), _THREADS
    ),
    st.builds(lambda f: ("flat_map", f), _with(Copies)),
    st.builds(lambda size: ("shuffle", size), st.integers(1, 7)),
    st.builds(lambda size, drop: ("batch", size, drop), st.integers(1, 4), st.booleans()),
    st.builds(lambda times: ("repeat", times), st.integers(0, 3)),
    st.builds(lambda count: ("take", count), st.integers(0, 60)),
    st.builds(lambda count: ("skip", count), st.integers(0, 20)),
    st.just(("enumerate",)),
    st.just(("cache",)),
    st.builds(lambda f, by, drop: ("bucket", f, by, drop), _with(Sized), st.sampled_from(["sizes", "tokens"]), st.booleans()),
    st.builds(
        lambda f, *arguments: ("pack", f, *arguments), _with(Numbers), st.integers(1, 5),
        st.sampled_from(["best_fit", "concatenate"]), st.integers(1, 3), st.sampled_from(["cut", "drop"]),
    ),
]  # fmt: skip
_ROOTS = st.one_of(
    st.builds(lambda n: mpqueue.Dataset.range(n), _LENGTHS),
    st.builds(lambda n: mpqueue.Dataset.range(n).shuffle(), _LENGTHS),
    st.builds(lambda n: mpqueue.Dataset([f"sample {i}" for i in range(n)]), _LENGTHS),
    st.builds(lambda n: mpqueue.Dataset(Shards(n)), _LENGTHS),
    st.builds(lambda n: mpqueue.Dataset(StatefulShards(n)), _LENGTHS),
)


def alone(value):
    return [value]


def linked(dataset, link):
    """Return a dataset with one stage more."""
    name, *arguments = link
    if name == "shuffle":
        return dataset.shuffle(buffer=arguments[0])
    if name == "batch":
        return dataset.batch(arguments[0], drop_last=arguments[1], collate=tuple)
    if name == "bucket":
        length, by, drop = arguments
        bounds = {"batch_sizes": [3, 2, 1]} if by == "sizes" else {"max_tokens": 12}
        return dataset.bucket(length, [3, 6], **bounds, drop_last=drop, collate=tuple)
    if name == "pack":
        function, length, strategy, bins, long = arguments
        if dataset.root.facts.batched is not None:
            dataset = dataset.flat_map(alone)  # or the rows are refused
        rows = dataset.map(function).pack(length, strategy=strategy, bins=bins, long=long)
        return rows.map(rows_plain)
    if name in {"map", "filter"}:
        return getattr(dataset, name)(arguments[0], threads=arguments[1])
    return getattr(dataset, name)(*arguments)


def _chains(roots, most):
    return st.builds(
        lambda dataset, links: _all_linked(dataset, links), roots, st.lists(st.one_of(*_LINKS), max_size=most)
    )


def _all_linked(dataset, links):
    for link in links:
        dataset = linked(dataset, link)
    return dataset


def _joined(kind, datasets, weights, stop):
    if kind == "mix":
        asked = [
            weight if dataset.root.is_indexed and not dataset.root.length() else weight + 1
            for dataset, weight in zip(datasets, weights, strict=False)
        ]
        datasets = [dataset.filter(Kept(1)) for dataset in datasets]  # by index it has tests of its own
        return mpqueue.Dataset.mix(datasets, weights=asked if any(asked) else None, stop=stop)
    return getattr(mpqueue.Dataset, kind)(*datasets)


_JOINS = st.builds(
    _joined,
    st.sampled_from(["zip", "concatenate", "mix"]),
    st.lists(_chains(_ROOTS, 2), min_size=1, max_size=3),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.sampled_from(["first", "all", "never"]),
)

DATASETS = st.one_of(_chains(_ROOTS, 6), _chains(_JOINS, 3))
