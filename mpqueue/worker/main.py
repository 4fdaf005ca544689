"""The main loop of a worker process, however it was started.

The worker reads grants one by one, computes the requested batch, writes it into the granted slot, and reports. It holds
no lock that another process waits for, and writes only to its granted slots. So it may be killed between any two
instructions: a batch is valid if its report was written; its replacement computes any other batch again.

At intervals it times one batch (`mpqueue.worker.batch_timing`): for that batch, the functions that compute and report
are replaced by versions with clocks.

If user code forks, and the child returns into this loop or raises there, the child is not a worker: it exits before it
writes to a slot or pipe (`_Worker._leave_if_forked`), at the latest at the end of its batch.

The worker exits at the end of the pipe of grants.
"""

import contextlib
import faulthandler
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mpqueue.engine.outcomes import BatchWithState, Partial
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import Segment
from mpqueue.memory.writer import Placed, SlotWriter
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.processes.child_process import finalize
from mpqueue.system.processes.exit import exit_code_of, leave, leave_as_child
from mpqueue.system.processes.own_process import make_mark
from mpqueue.system.program_streams import call_unless_lost
from mpqueue.system.signals.exceptions import matches, set_traceback
from mpqueue.system.standard_input import explain_quit
from mpqueue.telemetry.clock import clock_ns
from mpqueue.transport.poller import has_hung_up
from mpqueue.worker import context, failures, queue_address, torch_info
from mpqueue.worker.batch_timing import BatchTiming
from mpqueue.worker.concurrency import stuck
from mpqueue.worker.concurrency.async_sources import close_before_exit, close_in_loop, initialise
from mpqueue.worker.config import Payload, WorkerConfig, WorkerEnds
from mpqueue.worker.placing import Placing
from mpqueue.worker.process_settings import answer_for_stacks
from mpqueue.worker.random_state import tensorflow_rng
from mpqueue.worker.random_state.shuffle_detection import NAME_BYTES, ShuffleDetector
from mpqueue.worker.random_state.user_generators import user_generators
from mpqueue.worker.records import (
    GRANT,
    HELD,
    HUNG,
    MAGIC,
    NEW_SPEC,
    ORDER,
    PARTIAL,
    REPORT,
    TAIL,
    UNSHARDED,
    GrantKind,
    ReportKind,
    pack_tail,
    pack_text,
    unpack_listed,
    unpack_start,
)
from mpqueue.worker.retry_markers import Name
from mpqueue.worker.runners.runner import BeginBatch, RunnerArguments, SourceRunner, StreamEnd, run_timed
from mpqueue.worker.runners.runners import make_runner
from mpqueue.worker.sample_block import SampleBlock
from mpqueue.worker.source_receive import apply_patch

if TYPE_CHECKING:  # imported by the runners of streams
    from mpqueue.plan.position.lanes import LaneStart, RetryStart

_AHEAD_NS = 100_000  # reading several cheap grants at once saves 0.7 µs for each
_MAX_AHEAD = 16


class Dismissed(BaseException):
    """The trainer has closed the pipe of grants: the batch in progress is not needed."""


class GrantReader:
    """Reads grants.

    Args:
        fd: The read end of the pipe.

    Attributes:
        backlog: Grants that were read and not served.
        read_at: Time of the latest read, by `clock_ns`.
        may_use_reserve: The latest answer to a lack of memory allows use of the reserved room in a control group.
    """

    def __init__(self, fd: int) -> None:
        self.backlog: deque[tuple[int, ...]] = deque()
        self.read_at = 0
        self.may_use_reserve = False
        self._fd, self._num_read, self._num_ahead = fd, 0, 1
        self._foreseen: deque[tuple[int, ...]] = deque()  # grants after the backlog that were read before their turn

    def read(self, now: int) -> bool:
        """Wait for grants; return False if there will be none."""
        if self._num_read:
            # The number served in `_AHEAD_NS` the last time, not more: unread grants remain in the pipe, where the
            # trainer can take them back for an idle worker.
            self._num_ahead = max(1, min(_MAX_AHEAD, _AHEAD_NS * self._num_read // (now - self.read_at + 1)))
        # One by one: the first grant of a read may be timed, and must be the one that was started first.
        if self._foreseen:
            # Not measured: the first batch was started earlier, and the next ones may take long.
            self.read_at, self._num_read, self._num_ahead = clock_ns(), 0, 1
            self.backlog.append(self._foreseen.popleft())
            return True
        data = os.read(self._fd, self._num_ahead * GRANT.size)
        self.read_at, self._num_read = clock_ns(), len(data) // GRANT.size
        self.backlog.extend(GRANT.iter_unpack(data))
        return bool(data)

    def foresee(self, position: int) -> tuple[int, ...] | None:
        """Return the grant at this position among those not served (0 is the next one); None if it has not arrived."""
        known = [*self.backlog, *self._foreseen]
        if position == len(known):
            # Without blocking: the trainer may take the grant back between a check and a read. The flag belongs to this
            # open file, and the trainer reads the pipe by a second one.
            os.set_blocking(self._fd, False)
            with contextlib.suppress(BlockingIOError):
                self._foreseen.extend(GRANT.iter_unpack(os.read(self._fd, GRANT.size)))
            os.set_blocking(self._fd, True)
            known = [*self.backlog, *self._foreseen]
        return known[position] if position < len(known) else None

    def may_retry(self) -> bool:
        """Wait for the answer to a lack of memory; return True to try again.

        Raises:
            Dismissed: The trainer has closed the pipe.
        """
        while data := os.read(self._fd, GRANT.size):
            grant = GRANT.unpack(data)
            if grant[1] == GrantKind.RETRY:
                self.may_use_reserve = bool(grant[4])
                return True
            if grant[1] == GrantKind.FAIL:
                self.may_use_reserve = True  # no worker computes a batch at this time
                return False
            # The trainer may have granted more before it saw the report.
            # Kept in order: a later grant of a lane continues where the earlier one has stopped.
            self._foreseen.append(grant)
        raise Dismissed

    def has_ended(self) -> bool:
        """Return True if the trainer has closed the pipe. Earlier grants may still be in it."""
        return has_hung_up(self._fd)


_BATCH = ReportKind.BATCH
_clock = time.perf_counter_ns
_WRAPPED = (Partial, BatchWithState)
_Argument: TypeAlias = "BatchSamples | LaneStart | RetryStart | None"  # content of the slot of the grant
_Reading: TypeAlias = Callable[[], _Argument]
_Run: TypeAlias = Callable[[int, int, Any], Any]


def run_and_exit(
    config: WorkerConfig,
    payload: Payload,
    buffers: list[Any],
    ends: WorkerEnds,
    finalize: Callable[[], None] = finalize,
) -> None:
    """Run the worker until its exit; never returns.

    Args:
        config: Settings of the worker and its pool.
        payload: The source and settings that it runs.
        buffers: The buffers of the payload.
        ends: Its descriptors.
        finalize: Called before the exit.
    """
    code = 1
    try:
        with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # stderr is closed
            # A crash in C code then prints the stacks. The trainer only sees a negative exit code.
            faulthandler.enable()
        answer_for_stacks(ends)
        _Worker(config, payload, buffers, ends).run()
        code = 0
    except SystemExit as leaving:  # raised by a signal handler of the user, to end this process
        code = exit_code_of(leaving)
    except Dismissed:
        code = 0
    except BrokenPipeError:
        code = 0  # the trainer has closed the pipe while this worker reported
    except BaseException:
        # A bug, not an error of the source, which would be reported; the trainer only sees the exit.
        call_unless_lost(traceback.print_exc)
    finally:
        finalize()
        # By `os._exit`: sources hold objects like `TemporaryDirectory`, and their clean-up belongs to the trainer.
        leave(code)


class _Worker:
    def __init__(self, config: WorkerConfig, payload: Payload, buffers: list[Any], ends: WorkerEnds) -> None:
        self._config, self._payload, self._buffers, self._ends = config, payload, buffers, ends
        self._segment = Segment(ends.segment, config.segment_bytes, config.segment_kind)
        self._writer = SlotWriter(self._segment, config.stride, config.max_batch_bytes)
        # Room in a control group for one batch of each worker, see `memory_pressure` of the pool.
        self._writer.spares = config.info.num_workers
        self._grants = GrantReader(ends.grants)
        self._placing = Placing(self._segment, self._writer, self._grants, self._report)
        self._broken: BaseException | None = None
        self._loop: Any = None  # the event loop, if the user has chosen it, or `worker_init` runs in it
        # Distinguishes this process from children that user code forks.
        self._own = make_mark()
        self._opening = 0, 0  # slot and turn of the last grant that opened a lane
        self._listed: dict[int, BatchSamples] = {}  # by turn: lists of batches that were read ahead
        self._seeding = LazySeeding(can_repeat=payload.form.can_repeat)
        tensorflow_rng.follow()
        self._kept = user_generators(payload)
        # Until its detection is over. A single process has only one order, and a stream has no order to compare.
        has_others = not config.is_stream and config.info.num_workers > 1
        self._watches = [ShuffleDetector(payload.source)] if has_others else []
        begin = self._make_begin()
        self._runner = self._make_runner(begin)
        # A batch may be computed twice: see `mpqueue.seeding.lazy_seeding`.
        self._run_unwatched: _Run = partial(self._seeding.each, self._runner.run)
        self._run: _Run = self._run_watched if self._watches else self._run_unwatched
        self._compute: _Run = self._run  # or the version with clocks
        self._put: Callable[[bytes], int] = partial(os.write, ends.reports)
        self._timing = BatchTiming(self._put, config.info.num_workers)
        context.enter_worker_process(config.info, self._own, self._writer, begin, self._begin_block, self._seeding)
        torch_info.enter_worker_process(payload.source)
        queue_address.directory = config.queue_directory
        stuck.tell = partial(self._tell, ReportKind.BLOCKED)
        stuck.tell_awaited = partial(self._tell, ReportKind.AWAITS)

    def _make_runner(self, begin: BeginBatch) -> SourceRunner:
        config, payload = self._config, self._payload
        arguments = RunnerArguments(
            payload.source, config.info, begin, payload.samples, in_slot=True, seeding=self._seeding,
            num_lanes=config.num_lanes, endless=config.is_endless, skips=config.skips,
            coroutines=payload.coroutines,
        )  # fmt: skip
        runner = make_runner(payload.form, arguments)
        runner.tell_mark = self._tell_mark
        return runner

    def _tell(self, kind: int, text: str) -> None:
        """Report a call that blocks the event loop, or what this worker waits for."""
        if self._own[0]:
            os.write(self._ends.reports, pack_text(kind, text))

    def _tell_mark(self, name: Name | None) -> None:
        """Report the sample that will be computed next, before user code runs for it."""
        slot, turn = self._opening
        if self._own[0]:  # otherwise a child that user code has forked
            os.write(
                self._ends.reports,
                REPORT.pack(MAGIC, ReportKind.MARK, name is not None, slot, turn, 0, *(name or (0, 0, 0)), 0, 0, 0),
            )

    def run(self) -> None:
        """Serve grants until the end of the pipe."""
        try:
            self._loop = initialise(self._payload.worker_init)
        except BaseException as error:
            if self._is_to_leave(error):
                raise
            self._broken = error  # reported as the outcome of every batch of this worker
        self._leave_if_forked()
        self._serve()
        close_before_exit(self._payload.source)

    def _serve(self) -> None:
        grants, backlog, work = self._grants, self._grants.backlog, GrantKind.WORK
        ended = _clock()
        while True:
            if not backlog:
                if not grants.read(ended):
                    return
                # Checked once per read, not per batch: up to 16 cheap grants arrive at a time.
                if grants.read_at >= self._timing.due_at:
                    # The next batch is a timed one; `_put_timed` restores the normal functions.
                    self._compute, self._put = self._compute_timed, self._put_timed
            _magic, kind, slot, turn, index, epoch, high_water = backlog.popleft()
            started = _clock()
            if kind == work:
                self._work(slot, turn, index, epoch, high_water, started - ended, None)
            elif kind == GrantKind.LISTED:
                read_listed = partial(self._read_listed, slot, turn)
                self._work(slot, turn, index, epoch, high_water, started - ended, read_listed)
            elif kind == GrantKind.LANE:
                self._opening = slot, turn
                read_start = partial(unpack_start, self._segment.memory, slot * self._config.stride)
                self._work(slot, turn, index, epoch, high_water, started - ended, read_start)
            elif kind == GrantKind.STATE:
                self._load_state(slot, turn, index)
            elif kind == GrantKind.AHEAD:
                self._runner.begin_ahead(self._batch_ahead if index else None)
            elif kind == GrantKind.CLOSE:
                self._runner.close_lane(index)
            ended = _clock()

    def _batch_ahead(self, position: int) -> tuple[int, int, BatchSamples | None] | None:
        """Return epoch, index and samples of a batch after the present one, if its grant has arrived."""
        grant = self._grants.foresee(position)
        if grant is None or grant[1] not in (GrantKind.WORK, GrantKind.LISTED):
            return None
        _, kind, slot, turn, index, epoch, _ = grant
        if kind == GrantKind.LISTED and turn not in self._listed:
            try:
                self._listed[turn] = unpack_listed(self._segment.memory, slot * self._config.stride)
            except BaseException:  # an error of a key; it is raised again in the turn of its batch
                return None
        return epoch, index, self._listed.get(turn)

    def _read_listed(self, slot: int, turn: int) -> BatchSamples:
        """Return the samples in a slot, which may have been read ahead."""
        listed = self._listed.pop(turn, None)
        return unpack_listed(self._segment.memory, slot * self._config.stride) if listed is None else listed

    def _compute_timed(self, epoch: int, index: int, argument: _Argument) -> Any:
        with self._timing.of(self._runner, self._seeding, self._kept) as stages:
            return run_timed(self._payload.source, stages, self._run, epoch, index, argument)

    def _run_watched(self, epoch: int, index: int, argument: Any) -> Any:
        try:
            return self._run_unwatched(epoch, index, argument)
        finally:
            self._look_for_orders(is_after=True)

    def _put_timed(self, record: bytes) -> int:
        self._compute, self._put = self._run, self._timing.put
        return self._timing.report(record)

    def _work(
        self, slot: int, turn: int, index: int, epoch: int, high_water: int, wait_ns: int, read: _Reading | None
    ) -> None:
        writer = self._writer
        # Before the source runs, because `mpqueue.empty` returns memory of this slot.
        writer.begin(slot, high_water)
        started = copying = _clock()
        flags, kind, tail, is_needed = 0, _BATCH, b"", False
        try:
            if self._broken is not None:
                raise self._broken
            # Here, because unpickling the keys of samples runs user code, which may raise.
            argument = None if read is None else read()
            # In a list and not in a variable, so that the writer can drop the last reference: a reference in this frame
            # would look like an array that user code holds in the slot.
            holder = [self._compute(epoch, index, argument)]
            copying = _clock()
            if type(holder[0]) in _WRAPPED:
                flags, tail, is_needed = _unwrap(holder)
            writer.take(holder)
            # Same as `_leave_if_forked`, without the call. Before any byte is written: slot and pipe belong to the
            # parent.
            if not self._own[0]:
                leave_as_child()
            try:
                placed = writer.place()
            except OSError as error:
                # Perhaps a lack of memory. Keep the batch, because it may not be possible to compute it again.
                placed = self._placing.again(error, slot, turn, writer.place)
            spec, is_new, header_offset, nbytes, is_held = placed
            flags += NEW_SPEC * is_new + HELD * is_held
            if tail and self._placing.put_behind(nbytes, tail, slot, turn, is_needed=is_needed):
                nbytes, flags = nbytes + len(tail), flags | TAIL
        except StreamEnd as ended:
            self._leave_if_forked()
            kind, spec, header_offset, nbytes = ReportKind.END, 0, 0, 0
            # The batch failed, but the source may have allocated memory in its slot, and hold it.
            flags = HELD * writer.keeps_slot() + UNSHARDED * (not self._runner.is_shared)
            try:
                if ended.rows or ended.skipped:
                    header_offset, nbytes = self._placing.place_end(ended, slot, turn)
                    flags |= TAIL * (nbytes > 0) | PARTIAL * bool(ended.skipped)
            except (OSError, SharedMemoryFull) as error:  # without the list, its samples would be missing silently
                kind = ReportKind.RAISED
                spec, _, header_offset, nbytes, is_held = self._place_failure(error, index, epoch)
                flags = HELD * is_held
        except BaseException as error:
            # Including SystemExit and KeyboardInterrupt of the source: if they ended this worker, its replacements
            # would get the same errors, until `restarts` is used up.
            if self._is_to_leave(error):
                raise
            kind, flags = ReportKind.RAISED, 0
            if type(error) is stuck.SampleHung:
                error, flags = error.as_timeout(index, epoch), HUNG
            spec, _, header_offset, nbytes, is_held = self._place_failure(error, index, epoch)
            flags |= HELD * is_held
        done = _clock()
        compute_ns, copy_ns, used = copying - started, done - copying, writer.high_water
        record = REPORT.pack(
            MAGIC, kind, flags, slot, turn, spec, header_offset, nbytes, used, compute_ns, copy_ns, wait_ns
        )
        # One write below PIPE_BUF: if the worker is killed before it, the work item is computed again; after it, the
        # batch is valid. No other state exists.
        self._put(record)
        while writer.let_go:  # after the batch, which the consumer may wait for
            self._report(ReportKind.LET_GO, writer.let_go.popleft(), 0)

    def _is_to_leave(self, error: BaseException) -> bool:
        """Return whether an exception ends the process instead of being the error of a batch.

        A SystemExit is the error of its batch, too, unless the trainer has closed the pipe: then a signal handler of
        the user has raised it.
        """
        self._leave_if_forked(error)
        is_dismissed = matches(error, SystemExit) and self._grants.has_ended()
        return matches(error, Dismissed) or is_dismissed

    def _leave_if_forked(self, error: BaseException | None = None) -> None:
        """Exit if this is a child that user code has forked; call this after user code.

        Args:
            error: The error of the user code; None if it has returned.
        """
        if not self._own[0]:
            leave_as_child(error)

    def _make_begin(self) -> BeginBatch:
        """Return the function to call before each batch or sample. It runs millions of times, so it looks up little."""
        current, seeding, watches = context.process_batch, self._seeding, self._watches

        def begin(seed: int, epoch: int, index: int) -> None:
            if watches:
                self._look_for_orders(is_after=False)
            # A new object each time: TensorFlow's draws are counted per object, see `tensorflow_rng`.
            current.of = (seed, epoch, index)
            current.rng = None
            if seeding.is_due:
                seeding.seed(seed, epoch, index)
            if not self._kept.is_idle:
                self._kept.seed(seed, epoch, index)

        return begin

    def _begin_block(
        self, seed: int, epoch: int, samples: Sequence[Any], positions: Sequence[Any]
    ) -> SampleBlock | None:
        """Start samples together, or return None if a generator must be seeded for each of them."""
        if self._watches or self._seeding.is_due or not self._kept.is_idle:
            return None
        context.process_batch.of = block = SampleBlock(seed, epoch, samples, positions)
        return block

    def _look_for_orders(self, *, is_after: bool) -> None:
        """Report the orders that the first item has drawn. After the last check, the normal functions are restored."""
        if not self._own[0]:
            return  # a child, which exits when its code returns or raises
        for watch in tuple(self._watches):
            for name, (row, elements, is_kept) in watch.look(is_after=is_after).items():
                shown = name.encode()[:NAME_BYTES]
                os.write(self._ends.reports, ORDER.pack(MAGIC, ReportKind.ORDER, is_kept, 0, row, elements, shown))
            if watch.is_over:
                self._watches.clear()
                if self._compute == self._run:  # otherwise `_put_timed` restores it
                    self._compute = self._run_unwatched
                self._run = self._run_unwatched

    def _place_failure(self, error: BaseException, index: int, epoch: int) -> Placed:
        explain_quit(error)
        packed = failures.pack(error, self._runner.note(index, epoch))
        self._leave_if_forked()  # pickling has run user code, which may have forked
        # The frames of user code would keep its arrays, and with them a slot.
        set_traceback(error, None)
        return self._writer.place_bytes(packed)

    def _load_state(self, slot: int, turn: int, nbytes: int) -> None:
        start = slot * self._config.stride
        encoded = np.frombuffer(self._segment.memory, np.uint8, nbytes, start)
        try:
            payload, self._buffers = apply_patch(encoded, self._buffers)
            former, self._payload = self._payload, payload
            self._runner.load(payload.source)
            close_in_loop(former.source)
            torch_info.enter_worker_process(payload.source)
            self._kept = user_generators(payload)
            self._broken = None
        except BaseException as error:
            if self._is_to_leave(error):
                raise
            self._broken = error
        self._leave_if_forked()
        # Also after a failure: the slot is not needed anymore, and each batch raises the error.
        self._report(ReportKind.LOADED, slot, turn)

    def _report(self, kind: int, slot: int, turn: int, nbytes: int = 0, flags: int = 0) -> None:
        os.write(
            self._ends.reports,
            REPORT.pack(MAGIC, kind, flags, slot, turn, 0, 0, nbytes, self._writer.high_water, 0, 0, 0),
        )


def _unwrap(holder: list[Any]) -> tuple[int, bytes, bool]:
    """Remove the wrappers of a result of a lane, or of a plan of samples, from a list with one element.

    Returns: The flags of its report, the tail to write after it, if any, and whether the tail must not be lost.
    """
    flags, tail, is_needed = 0, b"", False
    if type(holder[0]) is BatchWithState:
        holder[0], state, rows, parts = holder[0]
        tail, is_needed = pack_tail(state, rows, parts), bool(parts)
    if type(holder[0]) is Partial:
        holder[0], flags = tuple(holder[0]), PARTIAL
    return flags, tail, is_needed
