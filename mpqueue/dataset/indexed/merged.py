"""The base of readers that make an element of several elements of their input: `batch`, `window`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mpqueue.dataset.description.ids import SampleId, SampleIds, concatenated
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, NothingLeft, Positions
from mpqueue.engine.skips import Skipped
from mpqueue.plan.options.batching import collation_of
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import no_sample
from mpqueue.system.signals.exceptions import add_note
from mpqueue.worker import context
from mpqueue.worker.failures import skips_sample


class MergingReader(LinkReader):
    """Elements that are made of several neighbouring elements of the input.

    The node has a ``size`` and a ``collate``, see `mpqueue.dataset.transformations.batch.BatchNode`.
    """

    node: Any

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return elements by index."""
        if run.skip is not None:
            return [self._rest(position, run) for position in positions]
        find = self._rows if run.keep is None else partial(self._kept_rows, run=run)
        rows = [find(position) for position in positions]
        # Request the samples of all elements in one call: a call costs each earlier stage the same for any number of
        # samples.
        flat = rows[0] if len(rows) == 1 else [row for each in rows for row in each]
        samples = self.input.at(flat, run)
        batches, start = [], 0
        for position, each in zip(positions, rows, strict=True):
            try:
                batches.append(self._joined(samples[start : start + len(each)], each, position, run))
            except BaseException as error:
                add_note(error, self.error_note(position, run))
                raise
            start += len(each)
        return batches

    def _kept_rows(self, position: int, run: IndexedRun) -> Positions:
        """Return the indices of the input's elements that are not excluded."""
        rows = self._rows(position)
        if run.keep is None:
            return rows
        return [row for row, ids in zip(rows, self.input.sample_ids(rows, run), strict=True) if ids]

    def _rest(self, position: int, run: IndexedRun) -> Any:
        """Return an element made of the samples that do not raise."""
        rows, samples = [], []
        for row in self._kept_rows(position, run):
            sample = self._tried(row, run)
            if sample:
                rows.append(row)
                samples += sample
        if not rows:
            raise NothingLeft
        return self._joined(samples, rows, position, run)

    def _tried(self, row: int, run: IndexedRun) -> list[Any]:
        """Return an element of the input in a list, or an empty list if it is skipped."""
        assert run.skip is not None
        skip, known = run.skip, set[SampleId]()

        def skip_inside(skipped: Skipped) -> None:
            known.update(skipped.ids)
            skip(skipped)

        try:
            (sample,) = self.input.at([row], run._replace(skip=skip_inside))
            if sample is None and collation_of(self.node.collate)[0] is None:
                raise no_sample(self.input.origin(row, run))
        except NothingLeft:
            return []
        except BaseException as error:
            if not skips_sample(error):
                raise
            (ids,) = self.input.sample_ids([row], run)
            skip(Skipped.because_of(error, ids=[each for each in ids if each not in known]))
            return []
        return [sample]

    def _joined(self, samples: list[Any], positions: Positions, position: int, run: IndexedRun) -> Any:
        collate, ragged = collation_of(self.node.collate)
        if collate is None:
            collation = Collation(
                len(samples),
                context.empty,
                ragged=ragged,
                refuse_none=lambda position: no_sample(self.input.origin(position, run)),
            )
            collation.add_all(samples)
            return collation.finish(positions)
        run.begin(self.seed(run), run.epoch, ~self._first(position))
        return collate(samples)

    def _first(self, position: int) -> int:
        """Return the index of the first element in the input."""
        raise NotImplementedError

    def _rows(self, position: int) -> range:
        first, length = self._first(position), self.input.length
        end = first + self.node.size
        return range(first, end if length is None else min(end, length))

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of the samples of an element."""
        rows = self._rows(position)
        return f"a batch from {self.input.origin(rows[0], run)} to {self.input.origin(rows[-1], run)}"

    def num_by_input(self, positions: Positions, run: IndexedRun) -> Mapping[int, int] | None:
        """Return the indices of the input's elements in these elements."""
        return self.input.num_by_input([row for position in positions for row in self._kept_rows(position, run)], run)

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of each element."""
        return [concatenated(self.input.sample_ids(self._rows(position), run)) for position in positions]
