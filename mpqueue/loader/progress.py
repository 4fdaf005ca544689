"""``progress=True``: a tqdm bar for each epoch, in terminals and notebooks.

Rates are measured since the last update of the bar.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from mpqueue.engine.pipeline import Pipeline
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.program_streams import is_lost
from mpqueue.system.units import share_text
from mpqueue.telemetry.bars import bar_class
from mpqueue.telemetry.stats import Statistics

_DRAW_EVERY_S = 0.5
# At 80 columns, 10 to 25 are left for the bar. Elapsed time, bytes and slots are in the statistics.
_WITH_END = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining}, {rate_fmt}{postfix}]"
_WITHOUT_END = "{desc}: {n_fmt} [{elapsed}, {rate_fmt}{postfix}]"


class ProgressBar:
    """A progress bar of an epoch: the `Pipeline.bar`.

    Args:
        pipeline: The pipeline.
        statistics: Returns its counters.
        name: Shown before the epoch.
    """

    def __init__(self, pipeline: Pipeline, statistics: Callable[[], Statistics], name: str) -> None:
        self._pipeline = pipeline
        self._statistics, self._name = statistics, name
        self._make, self._epoch = bar_class(), -1
        self._bar: Any = None
        self._length: int | None = None  # kept from the previous epoch: the length of the last epoch may be forgotten
        self._before, self._drawn_at = Statistics(), 0.0

    def step(self, work_item: WorkItem) -> None:
        """Show one more batch."""
        bar = self._bar
        epoch = self._pipeline.ledger.counts.epoch_of(work_item)
        if bar is None or epoch != self._epoch:
            self.close()
            bar = self._open(epoch)
        bar.update()
        now = time.monotonic()
        if now >= self._drawn_at + _DRAW_EVERY_S or bar.n == bar.total:
            self._drawn_at = now
            self._describe(bar)

    def _open(self, epoch: int) -> Any:
        length = self._pipeline.ledger.cursor.length_of(epoch)
        self._length = self._length if length is None else length
        self._epoch = epoch
        form = _WITHOUT_END if self._length is None else _WITH_END
        before, is_off = self._num_before(), is_lost(sys.stderr)
        self._bar = bar = self._make(
            desc=f"{self._name} {epoch}",
            total=self._length,
            initial=before,
            unit="batch",
            bar_format=form,
            disable=is_off,
        )
        self._before, self._drawn_at = self._statistics(), time.monotonic()
        return bar

    def _num_before(self) -> int:
        """Return the number of batches of this epoch before the first one that is shown."""
        progress = self._pipeline.progress
        return progress.position + len(progress.ahead)

    def _describe(self, bar: Any) -> None:
        current = self._statistics()
        change, self._before = current - self._before, current
        bar.set_postfix_str(f"waits {share_text(change.wait_share)}")

    def close(self) -> None:
        """Leave the bar as it is, if there is one. May be called from any thread."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
