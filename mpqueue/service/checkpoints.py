"""Places of a stream in lanes, from which a server that comes back goes on.

A batch of a stream cannot be asked for by its position: it is computed behind those before it in its lane. So the
server notes from time to time where its stream is (`mpqueue.plan.cursors.Place`, with the snapshots of the lanes);
as soon as all that came before such a place was taken, that is a *checkpoint*, and the journal is written anew with it:

    positions        0 ........ P ...... F .. x . x ..... now
    taken            all        all      some
    journal                     ^ the place with its snapshots, and which positions behind it were taken

Another server begins at P. What lies between P and F, the first position that is missing to anybody, and what was taken
behind that, is computed again and dropped.
"""

import time
from collections.abc import Iterable

from mpqueue.plan.cursors import Place
from mpqueue.service.journal import Journal
from mpqueue.service.modes import Mode
from mpqueue.service.stream import Stream

BETWEEN_S = 1.0  # as long as lies between two snapshots of all lanes, and more than enough for a megabyte


class Checkpoints:
    """Writes them.

    Args:
        journal: Into this.
        stream: Of this, which is one in lanes.
        mode: The mode of the server.
    """

    def __init__(self, journal: Journal, stream: Stream, mode: Mode) -> None:
        self._journal, self._stream, self._mode = journal, stream, mode
        self._noted: list[Place] = []  # the first one that will be a checkpoint, and the newest
        self._noted_at = time.monotonic()
        self._taken: dict[int, set[int]] = {}
        self._written = 0  # the position of the latest checkpoint
        self._frontier = mode.make_frontier(0)

    def go_on(self, position: int, taken: Iterable[tuple[int, int]]) -> None:
        """Another server has written a checkpoint, and these pairs of holder and position behind it."""
        self._written, self._frontier = position, self._mode.make_frontier(position)
        for who, number in taken:
            self._add(number, who)

    def begin(self) -> None:
        """An epoch begins."""
        self._noted.clear()
        self._taken.clear()
        self._written, self._frontier = 0, self._mode.make_frontier(0)

    def note_taken(self, position: int, who: int) -> None:
        """Note what the journal was told; write a checkpoint where one is due.

        Raises:
            OSError: The journal cannot be written.
        """
        self._add(position, who)
        if self._noted and position + 1 >= self._noted[0].position:
            frontier = self._frontier.position(self._journal.present)
            passed = [place for place in self._noted if place.position <= frontier]
            if passed:
                self._noted = self._noted[len(passed) :]
                self._write(passed[-1])
        now = time.monotonic()
        if now - self._noted_at < BETWEEN_S:
            return
        self._noted_at = now
        place = self._stream.lane_place()
        if place.position > self._written:
            # The first one is kept until it is passed: to replace it each time would put it off for ever.
            self._noted = [*self._noted[:1], place]

    def _add(self, position: int, who: int) -> None:
        self._taken.setdefault(who, set()).add(position)
        self._frontier.add(position, who)

    def _write(self, place: Place) -> None:
        self._written = place.position
        # What lies before the place is not missing to anybody: so the file has a bound, in an endless epoch, too.
        for who, positions in self._taken.items():
            latest = max(positions)  # by which is told how many a rank has had
            self._taken[who] = {position for position in positions if position >= place.position} | {latest}
        begun = self._stream.begun if self._mode.can_join_late else None
        pairs = [(who, position) for who, positions in self._taken.items() for position in sorted(positions)]
        self._journal.begin(place.epoch, None, pairs, place, begun)
