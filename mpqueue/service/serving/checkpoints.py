"""Checkpoints of streams with lanes: positions where a restarted server can continue.

A batch of a stream cannot be computed by its position alone: it follows the batches before it in its lane. So the
server regularly notes where its stream is (a `mpqueue.plan.position.cursors.Point` with snapshots of the lanes). When
all batches before such a point were taken, the point becomes a *checkpoint*, and the journal is rewritten with it:

    positions        0 ........ P ...... F .. x . x ..... now
    taken            all        all      some
    journal                     ^ the point with its snapshots, and the positions after it that were taken

A restarted server begins at P. F is the first position that a consumer still needs. The batches between P and F, and
the taken ones after F, are computed again and dropped.
"""

import time
from collections.abc import Iterable

from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.service.routing.modes import Mode
from mpqueue.service.serving.journal import Journal
from mpqueue.service.stream.lane_stream import LaneStream

BETWEEN_S = 1.0  # the interval of the lanes' own snapshots; writing a megabyte takes much less


class Checkpoints:
    """Writes the checkpoints of a stream with lanes into a journal.

    Args:
        journal: The journal.
        stream: The stream.
        mode: The mode of the server.
    """

    def __init__(self, journal: Journal, stream: LaneStream, mode: Mode) -> None:
        self._journal, self._stream, self._mode = journal, stream, mode
        # At most two points: the next checkpoint, and the newest point. All others would only use memory.
        self._noted: list[ResumePoint] = []
        self._noted_at = time.monotonic()
        self._taken: dict[int, set[int]] = {}
        self._written = 0  # the position of the latest checkpoint
        self._frontier = mode.make_frontier(0)

    def resume(self, position: int, taken: Iterable[tuple[int, int]]) -> None:
        """Continue after the checkpoint of the previous server, and its pairs of holder and position after it."""
        self._written, self._frontier = position, self._mode.make_frontier(position)
        for who, taken_position in taken:
            self._add(taken_position, who)

    def begin(self) -> None:
        """Forget the previous epoch."""
        self._noted.clear()
        self._taken.clear()
        self._written, self._frontier = 0, self._mode.make_frontier(0)

    def note_taken(self, position: int, who: int) -> None:
        """Record a taken batch, and write a checkpoint if one is due.

        Raises:
            OSError: The journal cannot be written.
        """
        self._add(position, who)
        # A batch before the point can complete it, too, but some later batch then triggers the check. This test is
        # cheap, and the frontier is not: each taken batch passes here.
        if self._noted and position + 1 >= self._noted[0].position:
            frontier = self._frontier.position(self._journal.present)
            # All batches before a checkpoint must be taken: the restarted server never computes them again, so an
            # untaken one would be lost.
            passed = [point for point in self._noted if point.position <= frontier]
            if passed:
                self._noted = self._noted[len(passed) :]
                self._write(passed[-1])
        now = time.monotonic()
        if now - self._noted_at < BETWEEN_S:
            return
        self._noted_at = now
        # At most once per interval: the point contains a snapshot of each lane, which may be large.
        point = self._stream.lane_point()
        if point.position > self._written:
            # Keep the first place until it is passed: replacing it each time would postpone the checkpoint forever.
            self._noted = [*self._noted[:1], point]

    def _add(self, position: int, who: int) -> None:
        self._taken.setdefault(who, set()).add(position)
        self._frontier.add(position, who)

    def _write(self, point: ResumePoint) -> None:
        self._written = point.position
        # Drop the positions before the point, which no consumer needs. This bounds the file in an endless epoch, too.
        for who, positions in self._taken.items():
            latest = max(positions)
            # Keep the latest position of each holder: the number of batches that a rank has taken follows from it.
            self._taken[who] = {position for position in positions if position >= point.position} | {latest}
        pairs = [(who, position) for who, positions in self._taken.items() for position in sorted(positions)]
        self._journal.begin(point.epoch, None, pairs, point)
