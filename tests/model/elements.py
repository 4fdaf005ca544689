"""The elements of a dataset, as recipes: which samples an element is made of, and how its value follows from them.

A recipe can be followed again without some samples. Exclusion and ``on_error="skip"`` mean no more than this.
"""

import copy
import itertools
from typing import Any, NamedTuple

from model.numbers import call


class Cancelled(BaseException):
    """An error that reports no bad sample, so that ``on_error="skip"`` must not hide it."""


RAISED = (Exception, Cancelled)


class Impossible(Exception):
    """What would follow is promised by no document."""


class Failed(NamedTuple):
    """An error in place of an element."""

    kind: str
    text: str
    others: tuple[Any, ...] = ()

    def __eq__(self, other):
        return isinstance(other, Failed) and (
            self[:2] == other[:2]
            or any(other == each for each in self.others)
            or any(self == each for each in other.others)
        )

    def __ne__(self, other):
        return not self == other

    __hash__ = None


def failed(error):
    """Return an error in place of an element. Of several samples that raise, it is not promised which one is named."""
    return Failed(type(error).__name__, str(error), tuple(map(failed, getattr(error, "others", ()))))


class Run(NamedTuple):
    """The parameters of a pass over a dataset; ``lane`` is one of ``lanes``.

    With a list ``skips``, samples that raise are left out, and the list gets their ids.
    """

    seed: int
    epoch: int
    skips: list[Any] | None = None
    lane: int = 0
    lanes: int = 1

    def of(self, epoch):
        """Return the run of a different epoch."""
        return self._replace(epoch=epoch)

    def of_cache(self):
        """Return the run of the elements that a cache stores."""
        return self._replace(seed=0, epoch=0)


class Element:
    """An element. Its token names it in its stage: its index, or in a lane often a tuple made of other tokens.

    An element that cannot be divided is left out as a whole, if one of its samples is excluded or it raises.
    """

    def value(self):
        """The value of an element is the same each time, and so is its error."""
        if "_known" not in vars(self):
            try:
                self._known = self.compute(), None
            except RAISED as error:
                self._known = None, error
        if self._known[1] is not None:
            raise self._known[1]
        return self._known[0]

    def use(self, value):
        """Use a value that was computed elsewhere."""
        self._known = value, None

    def without(self, excluded):
        """Return the element without excluded samples, or None."""
        return None if any(each in excluded for each in self.ids()) else self

    def skipping(self, skipped):
        """Return the element without samples that raise, or None; append the ids of these samples to a list."""
        try:
            self.value()
        except Exception:
            skipped += self.ids()
            return None
        return self


def tried(element, skips):
    """An error replaces its element. With ``skips``, what raises is left out, and the rest of the element remains."""
    try:
        element.value()
    except RAISED as error:
        if skips is None or not isinstance(error, Exception):
            return failed(error)
        try:
            return element.skipping(skips)
        except Cancelled as inside:
            return failed(inside)
    return element


def errors_of(element):
    """Return the errors that an element may raise."""
    try:
        element.value()
    except RAISED as error:
        return [error, *getattr(error, "others", ())]
    return []


class Single(Element):
    """A sample of a source; or an item of `flat_map`, which has the ids of the element that it is an item of."""

    def __init__(self, token, ids, compute):
        self.token, self._ids, self.compute = token, ids, compute

    def ids(self):
        return self._ids


class Made(Element):
    """An element that is made of an inner element: of the rest of the inner element, if samples are left out."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def token(self):
        return self.inner.token

    def ids(self):
        return self.inner.ids()

    def of(self, inner):
        if inner is None or inner is self.inner:
            return inner and self
        made = copy.copy(self)
        vars(made).pop("_known", None)
        made.inner = inner
        return made

    def without(self, excluded):
        return self.of(self.inner.without(excluded))

    def skipping(self, skipped):
        made = self.of(self.inner.skipping(skipped))
        return made and Element.skipping(made, skipped)


class Mapped(Made):
    """The result of a function. Its random numbers depend on the stage and the element's token."""

    def __init__(self, inner, key, function, with_id):
        super().__init__(inner)
        self._key, self._function, self._with_id = key, function, with_id

    def compute(self):
        given = (self.inner.value(), *self.ids()) if self._with_id else (self.inner.value(),)
        return call((*self._key, self.token), self._function, *given)


class Scanned(Made):
    """The result of `scan`, which also depends on the state before the element."""

    def __init__(self, inner, before, result):
        super().__init__(inner)
        self._before, self._result = before, result

    @property
    def token(self):
        return self.inner.token, 0, self._before

    def compute(self):
        return self._result(self.inner, self._before)[1]


class Numbered(Made):
    """An element with the number of its pass, of its input, or of its place, which precedes its token in a lane.

    By index, its token is its index ``place``. If inputs have names, its input's name precedes the ids of its samples.
    With ``shows``, the value is the pair (number, value), as in `enumerate`.
    """

    def __init__(self, inner, number, part=None, position=None, *, shows=False):
        super().__init__(inner)
        self._number, self._part, self._position, self._shows = number, part, position, shows

    @property
    def token(self):
        return (self._number, self.inner.token) if self._position is None else self._position

    def ids(self):
        return named(self._part, self.inner.ids())

    def compute(self):
        return (self._number, self.inner.value()) if self._shows else self.inner.value()

    def without(self, excluded):
        return self.of(self.inner.without(within(self._part, excluded)))

    def skipping(self, skipped):
        inside = []
        made = self.of(self.inner.skipping(inside))
        skipped += named(self._part, inside)
        return made


def named(part, ids):
    """The id of a sample of a part begins with the name of the part."""
    return ids if part is None else [(part, *each) if isinstance(each, tuple) else (part, each) for each in ids]


def within(part, ids):
    """Return the ids of the samples of a part, without its name."""
    if part is None:
        return ids
    inside = [each[1:] for each in ids if isinstance(each, tuple) and each[0] == part]
    return {each if len(each) > 1 else each[0] for each in inside}


class Joined(Element):
    """A batch. It keeps the elements that are left, and the random numbers of ``token``; None: of its first element."""

    def __init__(self, parts, collate, key, position=None, token=None):
        self.parts, self._rest = parts, (collate, key, position, token)

    @property
    def token(self):
        return tuple(part.token for part in self.parts) if self._rest[2] is None else self._rest[2]

    def ids(self):
        return [each for part in self.parts for each in part.ids()]

    def compute(self):
        collate, key, _, token = self._rest
        errors = [error for each in self.parts for error in errors_of(each)]
        if errors:
            errors[0].others = errors[1:]
            raise errors[0]
        return call(
            (*key, self.parts[0].token if token is None else token), collate, [each.value() for each in self.parts]
        )

    def _left(self, parts):
        left = [part for part in parts if part is not None]
        return Joined(left, *self._rest) if left else None

    def without(self, excluded):
        """A batch keeps the elements that are left; without any, it is left out."""
        return self._left([part.without(excluded) for part in self.parts])

    def skipping(self, skipped):
        made = self._left([part.skipping(skipped) for part in self.parts])
        return made and Element.skipping(made, skipped)


class Pair(Element):
    """A tuple of `zip`, which is left out as a whole: the elements of its inputs may belong together."""

    def __init__(self, parts, position=None):
        self._parts, self.token = parts, tuple(part.token for part in parts) if position is None else position

    def ids(self):
        return [each for index, part in enumerate(self._parts) for each in named(index, part.ids())]

    def compute(self):
        return tuple(part.value() for part in self._parts)


class Piece(NamedTuple):
    """The items of a sequence from ``start`` to ``stop``, as a segment of a row."""

    element: Any
    start: int
    stop: int

    @property
    def size(self):
        return self.stop - self.start

    def cut(self, size):
        """Return the first ``size`` items, and the rest."""
        middle = self.start + size
        return self._replace(stop=middle), self._replace(start=middle)


class Row(Element):
    """A row of `pack`: items, the number of each item's segment and its position in it. Segments are left out singly.

    Fields of whole sequences have a value for each segment.
    """

    def __init__(self, pieces, length):
        self.pieces, self._length = pieces, length
        self.token = tuple((piece.element.token, piece.start, piece.stop) for piece in pieces)

    def ids(self):
        return [each for piece in self.pieces for each in piece.element.ids()]

    def compute(self):
        items = []
        for segment, piece in enumerate(self.pieces, 1):
            numbers = sequence_of(piece.element)[piece.start : piece.stop]
            items += [(int(number), segment, position) for position, number in enumerate(numbers)]
        columns = zip(*(items + [(0, 0, 0)] * (self._length - len(items))), strict=True)
        row = dict(zip(("tokens", "segment_ids", "positions"), map(list, columns), strict=True))
        whole = [piece.element.value() for piece in self.pieces if isinstance(piece.element.value(), dict)]
        if whole:
            parts = [each["part"] for each in whole]
            ends = itertools.accumulate(map(len, parts), initial=0)
            row |= {"part": (list(itertools.chain(*parts)), list(ends)), "name": [each["name"] for each in whole]}
        return row

    def without(self, excluded):
        """A row keeps the segments of sequences that have no excluded sample."""
        kept = kept_pieces(self.pieces, excluded)
        return Row(kept, self._length) if kept else None


def sequence_of(element):
    """Return the sequence of an element of `pack`, which may have other fields."""
    value = element.value()
    return value["tokens"] if isinstance(value, dict) else value


def kept_pieces(pieces, excluded):
    """Return the pieces of sequences without excluded samples."""
    return [piece for piece in pieces if Element.without(piece.element, excluded) is not None]
