"""The stages of a dataset: what each one promises, by index and in a virtual shard (lane).

A stage with an index defines the element at each index. A stream has lanes: lane l of L reads the elements l, l + L,
l + 2 L, ... of an indexed part, or its share of the source. Each stage works in each lane on its own.

Excluded samples are not read from the next epoch of a lane on. Until then, they take their way through the stages, and
are left out where elements are merged, and at the end of the lane (`Lane.kept`).
"""

import itertools
from bisect import bisect_right

import numpy as np
from model.elements import (
    RAISED,
    Failed,
    Impossible,
    Joined,
    Mapped,
    Numbered,
    Pair,
    Piece,
    Run,
    Scanned,
    Single,
    failed,
    sequence_of,
    tried,
    within,
)
from model.functions import DrawnInBlocks
from model.mixtures import index_picks, lane_pick, plan, spans_of
from model.numbers import Picks, SampleOrder, call, is_in_part, mixed_numbers, seed_of_stage
from model.rows import BestFit, Concatenation

END, MOST = object(), 3000


class Stage:
    """A stage. Its inputs have the indices before its own, and its random numbers depend on its index.

    `element` returns the element at an index, `elements` yields the elements of a lane. ``parts`` are the names of its
    inputs in the ids of samples. ``fields`` are the names of its other arguments.
    """

    fields, is_stream, threads = (), False, 1

    def __init__(self, stage_index, inputs, *given):
        self.stage_index, self.inputs, self.parts = stage_index, inputs, [None] * len(inputs)
        self.is_indexed = not self.is_stream and all(each.is_indexed for each in inputs)
        vars(self).update(zip(self.fields, given, strict=False))

    def length(self, run):
        """Return the number of elements of an indexed stage; None: endless."""
        return self.inputs[0].length(run)

    def key(self, run):
        return seed_of_stage(run.seed, self.stage_index), run.epoch

    def element(self, position, run):
        return self.inputs[0].element(position, run)

    def elements(self, lane):
        """Yield the errors of the input, what `each` makes of its elements, and the `rest` at the end."""
        for one in ahead(lane, self.threads):
            yield from [one] if isinstance(one, Failed) else self.each(lane, one)
        yield from self.rest(lane)

    def rest(self, _lane):
        return ()

    def nothing(self):
        """Return what a lane holds before its first element."""
        return []


class Lane:
    """The elements of a stage in a lane, one by one, with errors in place of elements.

    The stage holds ``held`` for later, and takes the places of its elements from ``places``. ``weights`` are the new
    weights of the only mixture that hold now, the latest last.
    """

    def __init__(self, stage, run, excluded=frozenset(), gate=frozenset, weights=()):
        self.stage, self.run, self.excluded, self.gate, self.key = stage, run, excluded, gate, stage.key(run)
        self.held, self.places, self.weights = stage.nothing(), itertools.count(), weights
        self.inputs, self.fruitless, self.is_entered = {}, 0, False
        self._elements = indices(self) if stage.is_indexed and not picks_in_lanes(stage) else stage.elements(self)

    def __iter__(self):
        """Excluded samples do not enter the first stage that holds, counts or merges elements.

        They do not enter a `concatenate` either, if another of its inputs has such a stage.
        """
        return (one for one in self._elements if not self.is_entered or isinstance(one, Failed) or self.kept([one]))

    def read(self, at=0, run=None):
        """Open an input. Without their excluded elements, the inputs of `zip` would be paired differently."""
        part, is_open = self.stage.parts[at], not isinstance(self.stage, Zip)
        excluded, gate = within(part, self.excluded), lambda: within(part, self.gate())
        made = (excluded, gate, self.weights) if is_open else ()
        self.inputs[at] = Lane(self.stage.inputs[at], run or self.run, *made)
        self.inputs[at].is_entered = flows(self.stage.inputs[at]) and not flows(self.stage)
        return self.inputs[at]

    def kept(self, elements):
        """Return the elements that a stage merges, without excluded samples."""
        found = [one for one in elements if not any(each in self.gate() for each in one.ids())]
        self.fruitless = 0 if found else self.fruitless + len(elements)
        if self.fruitless > MOST:
            raise Impossible  # a part that repeats without an end has only excluded samples: the search has no end
        return found

    def tried(self, element):
        """Return an element, or its error, in a list; an empty list if it is left out because of the error."""
        found = tried(element, self.run.skips)
        return [] if found is None or (isinstance(found, Failed) and not self.kept([element])) else [found]

    def called(self, function, one, *arguments, token=None):
        """Return the result of a function for an element, and a list with its error, or None if it is excluded."""
        token = one.token if token is None else token
        try:
            return call((*self.key, token), function, *arguments), []
        except RAISED as error:
            if self.run.skips is None or not isinstance(error, Exception):
                return END, [failed(error)] if self.kept([one]) else None
            self.run.skips.append(token)
            return END, []


def flows(stage):
    """Return whether no stage of a lane holds, counts or merges elements."""
    if stage.is_indexed and not picks_in_lanes(stage):
        return True
    return isinstance(stage, FLOWING) and all(map(flows, stage.inputs))


def picks_in_lanes(stage):
    """Return whether this is a mixture, or a `map` after one: in a stream, each lane makes its own picks."""
    while isinstance(stage, Map):
        stage = stage.inputs[0]
    return isinstance(stage, Mix)


def indices(lane):
    """Lane l of L reads the indices l, l + L, l + 2 L, ... of an indexed dataset."""
    run, length = lane.run, lane.stage.length(lane.run)
    for position in itertools.count(run.lane, run.lanes):
        if length is not None and position >= length:
            return
        element = lane.stage.element(position, run).without(lane.excluded)
        if element is not None:
            yield from lane.tried(element)


def share(count, run):
    """Return a lane's share of the first ``count`` elements of a stream."""
    return max(0, -(-(count - run.lane) // run.lanes))


def again(run, pass_index, times):
    """Return the run of a pass over a dataset that is repeated: each pass is a separate epoch."""
    return run.of((run.epoch << 32) + pass_index if times is None else run.epoch * times + pass_index)


class Source(Stage):
    """The id of a sample is its index, and so is the place that its random numbers are derived from."""

    fields = ("source",)

    def length(self, run):
        return len(self.source)

    def element(self, position, run):
        return Single(position, [position], lambda: call((*self.key(run), position), self.source.__getitem__, position))


class Stream(Stage):
    """The id of a sample is (lane, index). An excluded sample is read, because later ones may depend on it."""

    fields, is_stream = ("source",), True

    def elements(self, lane):
        run = lane.run
        items = call((*lane.key, run.lane), lambda: iter(self.source.share(run.lane, run.lanes)))
        for index in itertools.count():
            element = Single(index * run.lanes + run.lane, [(run.lane, index)], lambda: item)  # noqa: B023
            item, errors = lane.called(next, element, items, END)
            if item is not END:
                element.value()
                if element.without(lane.excluded) is not None:
                    yield element
            elif errors is None or errors or (run.skips is not None and not is_over(items)):
                yield from errors or ()
            else:
                return


def is_over(items):
    """Return whether an iterator is over. It is not over after an error, unless it is a generator."""
    return getattr(items, "gi_frame", items) is None or getattr(items, "is_over", False)


class Map(Stage):
    """`map` calls a function for each element. The element keeps its token."""

    fields, with_id = ("function", "threads", "with_id"), False

    def element(self, position, run):
        return Mapped(self.inputs[0].element(position, run), self.key(run), self.function, self.with_id)

    def each(self, lane, one):
        return lane.tried(Mapped(one, lane.key, self.function, self.with_id))


def ahead(lane, threads):
    """With ``threads``, a stage of a stream holds 4 elements for each of them that it has read ahead.

    It reads the next ones when half of them were used. An error of its input follows the elements before it.
    """
    if threads == 1:
        yield from lane.read()
        return
    source, errors, most = iter(lane.read()), [], 4 * threads

    def read(used):
        while not errors and len(lane.held) < most - used % (most // 2) and (one := next(source, END)) is not END:
            (errors if isinstance(one, Failed) else lane.held).append(one)

    for used in itertools.count(1):
        read(used - 1)
        while errors and not lane.held:
            yield errors.pop()
            read(used - 1)
        if not lane.held:
            return
        one = lane.held.pop(0)
        read(used)
        yield one


class Calling(Stage):
    """A stage of a stream that calls a function."""

    fields, is_stream = ("function", "threads"), True


class Filter(Calling):
    """`filter` keeps the elements that a function accepts."""

    def each(self, lane, one):
        verdict, errors = lane.called(self.function, one, one.value())
        return (errors or ()) if verdict is END or not verdict else [one]


class TakeWhile(Calling):
    """`take_while` ends a lane before the first element that a function does not accept."""

    def elements(self, lane):
        for one in lane.read():
            verdict, errors = (END, [one]) if isinstance(one, Failed) else lane.called(self.function, one, one.value())
            if not verdict:
                return
            yield from (errors or ()) if verdict is END else [one]


class FlatMap(Calling):
    """`flat_map` returns the items of an iterable, which have the ids of the element.

    Which samples an item is made of is unknown: it has all samples of its element.
    """

    def each(self, lane, one):
        items, errors = lane.called(lambda value: iter(self.function(value)), one, one.value())
        yield from errors or ()
        for index in itertools.count() if items is not END else ():
            token = one.token, index
            item, errors = lane.called(next, one, items, END, token=token)
            if item is END:  # or an error, which ends a generator
                yield from errors or ()
                return
            yield Single(token, one.ids(), lambda item=item: item)


class Scan(Calling):
    """`scan` calls a function with a state. The state changes only if the function succeeds."""

    def nothing(self):
        return 0

    def each(self, lane, one):
        def result(element, before):
            return call((*lane.key, element.token), self.function, before, element.value())

        made = Scanned(one, lane.held, result)
        found = lane.tried(made)
        if found == [made]:
            lane.held = result(one, lane.held)[0]
        return found


class Picked(Stage):
    """The elements of its input at other indices, which a function returns for the length of the input."""

    def __init__(self, stage_index, inputs, indices_of):
        super().__init__(stage_index, inputs)
        self._indices_of, self._known = indices_of, {}

    def _at(self, run):
        key = run.seed, run.epoch, self.inputs[0].length(run)
        if key not in self._known:
            self._known[key] = self._indices_of(self, run, key[2])
        return self._known[key]

    def length(self, run):
        return len(self._at(run))

    def element(self, position, run):
        return Numbered(self.inputs[0].element(int(self._at(run)[position]), run), 0, position=position)


def shuffled_whole(stage, run, length):
    """`shuffle()` is a permutation of the whole dataset, different in each epoch."""
    return SampleOrder(stage.key(run)[0], shuffle=True).at(run.epoch, length, list(range(length)))


class Blocks(Picked):
    """`shuffle(block=n, blocks=m)`. A source with ``get_blocks`` reads groups of m blocks.

    Its numbers for a group do not depend on the request; its numbers for a request depend on the first place.
    """

    def __init__(self, stage_index, inputs, size, count):
        super().__init__(stage_index, inputs, shuffled_by_blocks(size, count))
        self._span = size, count

    def draws(self):
        return isinstance(getattr(self.inputs[0], "source", None), DrawnInBlocks)

    def element(self, position, run):
        made = super().element(position, run)
        if self.draws():
            made.inner.compute = lambda: self.read([position], run)[position]
        return made

    def read(self, positions, run):
        """Return the samples of a request by place."""
        size, count = self._span
        order, length, source, found = self._at(run), self.inputs[0].length(run), self.inputs[0].source, {}
        blocks = _blocks_in_order(self, run, length, size)
        for first in range(0, len(blocks), count):
            group = blocks[first : first + count]
            indices = list(itertools.chain.from_iterable(group))
            inside = {position: indices.index(order[position]) for position in positions if order[position] in indices}
            if inside:
                rows = call((*self.inputs[0].key(run), ~group[0][0]), source.get_blocks, group)
                samples = call((*self.key(run), ~next(iter(inside))), rows.__getitem__, inside.values())
                found |= zip(inside, samples, strict=True)
        return found


def shuffled_by_blocks(size, num_blocks):
    """`shuffle(block=n, blocks=m)` permutes blocks of n neighbours, then the elements of each m consecutive blocks.

    Whole blocks are permuted among themselves; a short last one gets a random place among them, in each epoch.
    """

    def indices_of(stage, run, length):
        seed, blocks = stage.key(run)[0], _blocks_in_order(stage, run, length, size)
        indices = []
        for group, first in enumerate(range(0, len(blocks), num_blocks), 1):
            members = [index for block in blocks[first : first + num_blocks] for index in block]
            inner = SampleOrder(_mixed(seed, run.epoch, group), shuffle=True)
            indices += [members[at] for at in inner.at(run.epoch, len(members), list(range(len(members))))]
        return indices

    return indices_of


def _blocks_in_order(stage, run, length, size):
    seed = stage.key(run)[0]
    blocks = [list(range(first, min(first + size, length))) for first in range(0, length, size)]
    short = [blocks.pop()] if length % size else []
    order = SampleOrder(seed, shuffle=True).at(run.epoch, len(blocks), list(range(len(blocks))))
    blocks = [blocks[at] for at in order]
    for each in short:
        blocks.insert(_mixed(seed, run.epoch, 0) % (len(blocks) + 1), each)
    return blocks


def _mixed(seed, epoch, number):
    return int(mixed_numbers(seed, epoch, np.array([number]))[0])


def part_of_split(low, high, seed):
    """`split` assigns a sample to a part by its index alone, in each epoch and for each length."""
    return lambda _stage, _run, length: [at for at in range(length) if is_in_part(seed, at, low, high)]


def sorted_by(own, function):
    """`sort` orders the elements by a key, which is computed with seed 0 in epoch 0, by the stages before alone."""

    def indices_of(_stage, _run, length):
        first = Run(0, 0)
        key = seed_of_stage(0, own.stage_index + 1), 0
        keys = [call((*key, at), function, own.element(at, first).value()) for at in range(length)]
        return sorted(range(length), key=keys.__getitem__)

    return indices_of


class Buffer(Stage):
    """`shuffle(buffer=n)` fills a buffer; then each element that is read replaces a picked one.

    At the end, the rest of the buffer is shuffled.
    """

    fields, is_stream = ("size",), True

    def each(self, lane, one):
        if len(lane.held) < self.size:
            lane.held.append(one)
            return []
        at = int(picks_of(lane).take(next(lane.places), 1, self.size)[0])
        picked, lane.held[at] = lane.held[at], one
        return [picked]

    def rest(self, lane):
        lane.held = [lane.held[at] for at in picks_of(lane).order(len(lane.held))]
        while lane.held:
            yield lane.held.pop()


def picks_of(lane):
    """Return the random picks of a buffer."""
    return Picks(*lane.key, lane.run.lane)


class Take(Stage):
    """`take` returns the first elements; of a stream, a lane's share of them. Errors are not counted."""

    fields = ("count",)

    def length(self, run):
        length = self.inputs[0].length(run)
        return self.count if length is None else min(length, self.count)

    def elements(self, lane):
        left = share(self.count, lane.run)
        for one in lane.read() if left else ():
            left -= not isinstance(one, Failed)
            yield one
            if not left:
                return


class Skip(Stage):
    """`skip` leaves out the first elements; of a stream, a lane's share of them. Errors are not counted."""

    fields = ("count",)

    def length(self, run):
        length = self.inputs[0].length(run)
        return length and max(0, length - self.count)

    def element(self, position, run):
        return Numbered(self.inputs[0].element(position + self.count, run), 0, position=position)

    def each(self, lane, one):
        return [one] if next(lane.places) >= share(self.count, lane.run) else []


class Enumerate(Stage):
    """`enumerate` returns pairs. Element n of lane l of L has the index ``n * L + l``."""

    def element(self, position, run):
        return Numbered(self.inputs[0].element(position, run), position, position=position, shows=True)

    def each(self, lane, one):
        return [Numbered(one, next(lane.places) * lane.run.lanes + lane.run.lane, shows=True)]


class Repeat(Stage):
    """`repeat` opens its input for each pass. Without a number of passes, one without elements is the last."""

    fields = ("times",)

    def length(self, run):
        length = self.inputs[0].length(run)
        return length and (None if self.times is None else length * self.times)

    def element(self, position, run):
        length = self.inputs[0].length(run)
        if length is None:
            return self.inputs[0].element(position, run)
        pass_index, inside = divmod(position, length)
        return Numbered(self.inputs[0].element(inside, again(run, pass_index, self.times)), 0, position=position)

    def elements(self, lane):
        for pass_index in itertools.count() if self.times is None else range(self.times):
            has_given = False
            for one in lane.read(0, again(lane.run, pass_index, self.times)):
                has_given |= not isinstance(one, Failed)
                yield one if isinstance(one, Failed) else Numbered(one, pass_index)
            if self.times is None and not has_given:
                return


class Grouping(Stage):
    """A stage that makes an element of ``size`` neighbours, or of fewer at the end without ``drop_last``."""

    def neighbours(self, first, run):
        """Return the elements of the input from an index on, fewer at the end."""
        (source,), end = self.inputs, first + self.size
        length = source.length(run)
        return [source.element(each, run) for each in range(first, end if length is None else min(end, length))]

    def each(self, lane, one):
        lane.held = [*lane.kept(lane.held), *lane.kept([one])]
        return self.grouped(lane) if len(lane.held) == self.size else []

    def rest(self, lane):
        while (held := lane.kept(lane.held)) and not self.drop_last:
            lane.held = held
            yield from self.grouped(lane)


class Batch(Grouping):
    """`batch` joins consecutive elements. By index, samples that are left out leave a gap in their batch.

    In a lane, later elements take their places. An error does not end a batch.
    """

    fields = "size", "drop_last", "collate"

    def length(self, run):
        length = self.inputs[0].length(run)
        return length and (length // self.size if self.drop_last else -(-length // self.size))

    def element(self, position, run):
        first = position * self.size
        return Joined(self.neighbours(first, run), self.collate, self.key(run), position, ~first)

    def grouped(self, lane):
        batch, lane.held = Joined(lane.held, self.collate, lane.key), []
        return lane.tried(batch)


class Window(Grouping):
    """`window` makes lists of neighbours, which overlap if ``stride`` is below ``size``.

    In a lane, later stages use the random numbers of the first element.
    """

    fields = "size", "stride", "drop_last"

    def length(self, run):
        length = self.inputs[0].length(run)
        starts = range(0, length or 0, self.stride)
        return length and sum(start + self.size <= length or not self.drop_last for start in starts)

    def element(self, position, run):
        return Joined(self.neighbours(position * self.stride, run), list, self.key(run), position)

    def grouped(self, lane):
        window, lane.held = lane.held[: self.size], lane.held[self.stride :]
        first, *others = [one.token for one in window]
        return lane.tried(Joined(window, list, lane.key, (first, 0, *others)))


class Bucket(Calling):
    """`bucket` puts each element into the bucket of its length; a full bucket becomes a batch.

    With ``max_tokens``, the greatest length times the number of elements is at most that.
    """

    fields = "function", "boundaries", "batch_sizes", "max_tokens", "drop_last", "collate"

    def nothing(self):
        return [[], [[] for _ in range(len(self.boundaries) + 1)]]  # full buckets, and open ones

    def each(self, lane, one):
        if not lane.kept([one]):
            return
        length, errors = lane.called(self.function, one, one.value())
        yield from errors or ()
        if length is not END:
            self._put(one, length, *lane.held)
            yield from self._batches(lane)

    def rest(self, lane):
        lane.held = [[] if self.drop_last else lane.held[1], []]
        return self._batches(lane)

    def _put(self, one, length, full, buckets):
        at = bisect_right(self.boundaries, length)
        for _ in range(2):
            if self.batch_sizes:
                size = self.batch_sizes[at]
            elif at < len(self.boundaries):
                size = max(1, self.max_tokens // self.boundaries[at])
            else:
                size = self.max_tokens // max(1, length, *[self.function(each.value()) for each in buckets[at]])
            if len(buckets[at]) < size:
                break
            full.append(buckets[at])  # this one is too long to fit with the others
            buckets[at] = []
        buckets[at].append(one)
        if len(buckets[at]) >= size:
            full.append(buckets[at])
            buckets[at] = []

    def _batches(self, lane):
        while lane.held[0]:
            bucket = lane.kept(lane.held[0].pop(0))
            yield from lane.tried(Joined(bucket, self.collate, lane.key)) if bucket else []


class Pack(Stage):
    """`pack` fills rows of one length with sequences. Excluded samples leave the rows when these are returned."""

    fields, is_stream = ("size", "strategy", "bins", "long"), True

    def nothing(self):
        return BestFit(self.size, self.bins) if self.strategy == "best_fit" else Concatenation(self.size)

    def each(self, lane, one):
        size = len(sequence_of(one)) if lane.kept([one]) else 0
        if size and (size <= self.size or self.long == "cut"):
            lane.held.add(Piece(one, 0, size))
        return lane.held.closed(lane)

    def rest(self, lane):
        lane.held.finish()
        return lane.held.closed(lane)


class Cache(Stage):
    """`cache` repeats epoch 0 of seed 0. A lane keeps excluded samples; they leave where elements are merged."""

    def length(self, run):
        return self.inputs[0].length(run.of_cache())

    def element(self, position, run):
        return self.inputs[0].element(position, run.of_cache())

    def elements(self, lane):
        for one in Lane(self.inputs[0], lane.run.of_cache()):
            yield one if isinstance(one, Failed) else Numbered(one, next(lane.places))


class Joining(Stage):
    """A stage with several inputs. Their names or indices begin the ids of their samples."""

    def __init__(self, stage_index, inputs, names=()):
        super().__init__(stage_index, inputs)
        self.parts = list(names) or list(range(len(inputs)))


class Zip(Joining):
    """`zip` returns tuples of one element of each input, until an input has no more."""

    def length(self, run):
        return min((length for each in self.inputs if (length := each.length(run)) is not None), default=None)

    def element(self, position, run):
        return Pair([each.element(position, run) for each in self.inputs], position)

    def elements(self, lane):
        lanes = [iter(lane.read(at)) for at in range(len(self.inputs))]
        while True:
            row = []
            for each in lanes:
                while isinstance(one := next(each, END), Failed):
                    yield one
                if one is END:
                    return
                row.append(one)
            yield Pair(row)


class Concatenate(Joining):
    """`concatenate` returns the elements of one input after another."""

    def length(self, run):
        lengths = [each.length(run) for each in self.inputs]
        return None if None in lengths else sum(lengths)

    def element(self, position, run):
        inside = position
        for at, each in enumerate(self.inputs):
            length = each.length(run)
            if length is None or inside < length:
                return Numbered(each.element(inside, run), at, self.parts[at], position)
            inside -= length
        raise IndexError(position)

    def elements(self, lane):
        for at in range(len(self.inputs)):
            for one in lane.read(at):
                yield one if isinstance(one, Failed) else Numbered(one, at, self.parts[at])
            del lane.inputs[at]


class Mix(Joining):
    """`mix` takes elements of its inputs by weight, in blocks; see `model.mixtures`.

    With "first", it ends when the picked input has no more. Otherwise an exhausted input starts again. With "all", the
    mixture ends when the last needed input starts again; with "never", it ends when none has elements.
    """

    def __init__(self, stage_index, inputs, schedule, stop, names):
        super().__init__(stage_index, inputs, names)
        self.schedule, self.stop, self.changes, self._known, self._lengths = schedule, stop, [], {}, {}

    def picks(self, run, count):
        """Return the inputs of the first samples of an epoch; ``count=None``: of all."""
        key, known = (run.seed, run.epoch, tuple(self.changes)), []
        if count is not None and len(known := self._known.get(key, [])) >= count:
            return known
        lengths = [each.length(run) for each in self.inputs]
        found = index_picks(*plan(self.schedule, self.changes, run.epoch), lengths, self.stop, self.key(run))
        self._known[key] = known = list(itertools.islice(found, count and count + 600))
        return known

    def length(self, run):
        if self.stop == "never" or all(each.length(run) is None for each in self.inputs):
            return None
        key = self.changes and (run.seed, run.epoch, tuple(self.changes))  # without changes, equal in all epochs
        if str(key) not in self._lengths:
            self._lengths[str(key)] = len(self.picks(run, None))
        return self._lengths[str(key)]

    def element(self, position, run):
        picks = self.picks(run, position + 1)
        at, inside = picks[position], picks[:position].count(picks[position])
        length = self.inputs[at].length(run)
        begun, inside = (0, inside) if self.stop == "first" or not length else divmod(inside, length)
        inner = run if self.stop == "first" else again(run, begun, None)
        return Numbered(self.inputs[at].element(inside, inner), at, self.parts[at], position)

    def elements(self, lane):
        """Yield elements in turn. New weights hold from the next pick of each lane on, with blocks that begin there."""
        spans, known, pick, has_ended = spans_of(self.schedule), 0, 0, False
        branches, done, before = {}, set(), None
        while not has_ended:
            # After an error, the same sample is picked again: its weights may have changed.
            if len(lane.weights) > known:
                known, before = len(lane.weights), None
                spans = spans_of([(pick and pick * lane.run.lanes + lane.run.lane, lane.weights[-1])])
            at, span = lane_pick(spans, (*lane.key, lane.run.lane), pick, *lane.run[-2:])
            if span != before and self.stop != "first" and span.needed <= done:
                break
            before = span
            if at not in branches:
                branches[at] = Passes(lane, at, starts_again=self.stop != "first")
            branch = branches[at]
            one = branch.next()
            if branch.num_passes if self.stop == "all" else branch.is_empty:
                done.add(at)
            is_last = self.stop == "first" or span.needed <= done
            has_ended = is_last and (one is END or self.stop == "all")
            if isinstance(one, Failed):
                yield one
            elif not has_ended:
                pick += 1
                if one is not END:
                    yield Numbered(one, at, self.parts[at])


class Passes:
    """An input of a mixture. When exhausted, it starts again, like a dataset repeated without a number of passes."""

    def __init__(self, lane, at, *, starts_again):
        self._lane, self._at, self._starts_again = lane, at, starts_again
        self.num_passes, self.is_empty, self._has_given = 0, False, False
        self._elements = iter(self._open())

    def _open(self):
        run = self._lane.run
        return self._lane.read(self._at, again(run, self.num_passes, None) if self._starts_again else run)

    def next(self):
        while not self.is_empty:
            one = next(self._elements, END)
            if not self._starts_again or isinstance(one, Failed):
                return one
            if one is not END:
                self._has_given = True
                return Numbered(one, self.num_passes)
            self.num_passes += 1
            self.is_empty, self._has_given = not self._has_given, False
            if not self.is_empty:
                self._elements = iter(self._open())
        return END


FLOWING = Stream, Map, Filter, FlatMap, Concatenate
