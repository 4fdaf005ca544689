"""How sequences become rows of one length: the two strategies of `pack`."""

from model.elements import Row


class Rows:
    """Open rows by number, and closed ones. Excluded samples leave these; an empty row does not count."""

    def __init__(self, length, bins=0):
        self._length, self._bins, self._opened, self._rows, self._closed = length, bins, 0, {}, []

    def all(self):
        """Return all rows, the closed ones first."""
        return [*self._closed, *self._rows.values()]

    def closed(self, lane):
        """Yield the rows of a lane that are closed."""
        while self._closed:
            left = [piece for piece in self._closed.pop(0) if lane.kept([piece.element])]
            if left:
                yield Row(left, self._length)

    def _space(self, number):
        return self._length - sum(piece.size for piece in self._rows.get(number, ()))


class BestFit(Rows):
    """A sequence goes into the open row where it leaves the least space. A full row is closed.

    Where it fits into none, a new row is opened. At the limit, the fullest row is closed first, unless twice the limit
    of rows were opened since the oldest one: then that one. A sequence that is longer than a row fills whole rows.
    """

    def add(self, piece):
        while piece.size > self._length:
            whole, piece = piece.cut(self._length)
            self._closed.append([whole])
        fitting = [(self._space(number), number) for number in self._rows if self._space(number) >= piece.size]
        if fitting:
            number = min(fitting)[1]
            self._rows[number].append(piece)
            if not self._space(number):
                self._closed.append(self._rows.pop(number))
        elif piece.size == self._length:
            self._closed.append([piece])
        else:
            if len(self._rows) == self._bins:
                oldest, fullest = min(self._rows), min((self._space(each), each) for each in self._rows)[1]
                self._closed.append(self._rows.pop(oldest if self._opened - oldest >= 2 * self._bins else fullest))
            self._opened += 1
            self._rows[self._opened] = [piece]

    def finish(self):
        """At the end, fit the rest again, the longest first; rows and segments are in the order of their arrival."""
        pieces = [piece for number in sorted(self._rows) for piece in self._rows[number]]
        order, again = {id(piece): at for at, piece in enumerate(pieces)}, BestFit(self._length, len(pieces) + 1)
        for piece in sorted(pieces, key=lambda piece: -piece.size):
            again.add(piece)
        rows = [sorted(row, key=lambda each: order[id(each)]) for row in again.all()]
        self._closed += sorted(rows, key=lambda row: order[id(row[0])])
        self._rows = {}


class Concatenation(Rows):
    """The items of all sequences one after another, cut into rows."""

    def add(self, piece):
        while piece.size:
            first, piece = piece.cut(min(piece.size, self._space(0)))
            self._rows.setdefault(0, []).append(first)
            if not self._space(0):
                self.finish()

    def finish(self):
        self._closed += self._rows.values()
        self._rows = {}
