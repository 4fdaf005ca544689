"""The versions of the source: which worker has which one, and how workers get a new one.

The trainer's source may change between epochs, in `on_epoch_end` or in the program, and between two starts. Before the
first batch of an epoch is delivered, the source is compared with the workers' version: the pickle, and the bytes of its
large arrays. After a change:

1. Batches computed ahead are dropped.
2. The fork server gets a patch, for workers that it will fork.
3. Running workers get the same patch through a free slot, if it is small. A large patch would be copied once per
   worker, so then new workers are forked that share it. Arrays outside the patch are reset to the sent version, as in a
   worker that replaces a crashed one. A ring that other users can read never holds a patch: new workers are forked.
4. The slot is free again when each worker has loaded the patch or has exited.

Workers forked from the trainer have no image to compare. They are forked again for each epoch.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpqueue.backends.sending.source_send import Patch, SourceImage, UnpicklableSource, encode_patch
from mpqueue.backends.sending.source_watch import SourceWatch
from mpqueue.backends.start.launcher import ForkServer, Launcher, LauncherGone, take_fork_server
from mpqueue.memory.slots import Slot
from mpqueue.system.units import size_text
from mpqueue.worker.records import GRANT, MAGIC, GrantKind

if TYPE_CHECKING:  # the fork server starts before these modules are imported
    from mpqueue.backends.processes.handle import WorkerHandle
    from mpqueue.backends.processes.roster import Roster
    from mpqueue.memory.ring import Ring

_MAX_PUSH_BYTES = 16 << 20
_NO_LAUNCHER = "the fork server has exited"


class SourceSync:
    """The payload of one pool, and its image in the workers.

    Args:
        watch: Watches the payload: the source and `worker_init`.
        image: The payload's image; None if workers are forked from the trainer.
        spawn: Workers are fresh interpreters.
        has_other_programs: See `mpqueue.backends.job.RingPlan`.
        make_launcher: Creates the launcher of a pool on several machines, which needs an image. If None, a fork server.
    """

    def __init__(
        self,
        watch: SourceWatch,
        image: SourceImage | None,
        *,
        spawn: bool,
        has_other_programs: bool = False,
        make_launcher: Callable[[], Launcher] | None = None,
    ) -> None:
        self._watch, self._image, self._spawn, self._make_launcher = watch, image, spawn, make_launcher
        self._has_other_programs = has_other_programs
        self._started: ForkServer | None = None
        self._fork_server: ForkServer | None = None  # of the running workers
        self._launcher: Launcher | None = None  # the launcher that has the image
        # By turn: the slot, and the number of workers that have not loaded it.
        self._loading: dict[int, tuple[Slot, int]] = {}

    def begin(self) -> None:
        """Start the fork server, if it was not started: its interpreter takes longer than everything else.

        Raises:
            OSError: Processes or descriptors are exhausted.
        """
        if self._started is None and self._image is not None and self._make_launcher is None:
            # One that exits at once is started again by `launch`: the caller of `launch` counts the crashes.
            with contextlib.suppress(LauncherGone):
                self._started = take_fork_server(spawn=self._spawn)

    def drop(self) -> None:
        """End a fork server that was started but not launched."""
        fork_server, self._started = self._started, None
        if fork_server is not None:
            fork_server.end()

    def launch(self) -> Launcher:
        """Return a launcher that starts workers with the latest image of the source.

        Raises:
            LauncherGone: The fork server exited while the source was sent.
            OSError: Processes or descriptors are exhausted.
        """
        if self._image is None:
            from mpqueue.backends.start.forker import Forker  # imports everything that runs in a worker

            return Forker(self._watch.payload, has_other_programs=self._has_other_programs)
        if self._make_launcher is not None:
            launcher = self._make_launcher()
        else:
            launcher = self._fork_server = self._started or take_fork_server(spawn=self._spawn)
            self._started = None
        try:
            self.equip(launcher)
        except LauncherGone:
            raise LauncherGone(launcher.release(reusable=False)) from None
        except BaseException:
            launcher.release(reusable=False)
            raise
        return launcher

    @property
    def is_inherited(self) -> bool:
        """True if workers are forked from the trainer and inherit its source."""
        return self._image is None

    def is_stale(self) -> bool:
        """Return whether the source has changed since the workers got it; True if that is unknown, after a fork."""
        return self._image is None or self._launcher is None or not self._launcher.has_image(self._take_image())

    @property
    def num_bytes(self) -> int:
        """Size of the image that the workers have; 0 if they have inherited the source."""
        image = self._image
        return 0 if image is None else len(image.data) + sum(buffer.nbytes for buffer in image.buffers)

    def refresh(self, roster: "Roster", ring: "Ring", *, may_push: bool) -> str | None:
        """Make the workers use the present state of the source; return why they must be restarted for it, or None.

        Args:
            roster: The running workers.
            ring: Their ring.
            may_push: A slot of the ring may hold the source.
        """
        if self._image is None:
            return "forked workers cannot receive changes of the source"
        starts = ring.recorder.starts
        # Before the launcher is checked: if the source cannot be pickled, no state has changed yet.
        with starts.part("compare"):
            self._image = self._take_image()
        # Unknown until the image is sent: if that fails, the next comparison must send it again.
        launcher, self._launcher = roster.launcher, None
        if launcher is None:
            return _NO_LAUNCHER
        # Running workers would attach to new shared memory of the source, and unlink it at their exit.
        must_restart = launcher is self._fork_server and self._fork_server.knows_other_parent()
        with starts.part("send") as part:
            try:
                patch = launcher.set_image(self._image)
            except LauncherGone:
                return _NO_LAUNCHER  # the restart will detect it, too
            self._launcher = launcher
            if patch is None:
                part.name = "compare"
                return None
            changed = f"{size_text(patch.nbytes)} have changed"
            starts.note("send", changed)
            if must_restart:
                return "the source may contain new objects of multiprocessing"
            if not may_push:
                return "users of allow_uids can read the memory of batches, which must not hold the source"
            if patch.nbytes > _MAX_PUSH_BYTES:
                return f"{changed}, and running workers receive up to {size_text(_MAX_PUSH_BYTES)}"
            return None if self._push(roster, ring, patch) else f"{changed}, and no slot of the ring is free"

    def _take_image(self) -> SourceImage:
        try:
            return self._watch.take_image()
        except UnpicklableSource as error:
            raise UnpicklableSource(f"the source has changed since the workers got it: {error}") from error

    def equip(self, launcher: Launcher) -> None:
        """Make a launcher start workers with the latest image of the source.

        Raises:
            LauncherGone: The fork server has exited.
        """
        if self._image is not None and launcher is not self._launcher:
            self._launcher = None
            launcher.set_image(self._image)
            self._launcher = launcher

    def _push(self, roster: "Roster", ring: "Ring", patch: Patch) -> bool:
        """Send a patch to the running workers; return False if a slot or memory for it is lacking."""
        workers = list(roster.workers.values())
        # No worker owns this slot: all of them read it.
        slot = ring.grant(-1)
        if slot is None:
            return False
        pieces = encode_patch(patch)
        # The pieces are in the order of their offsets, so the last one ends the patch.
        nbytes = pieces[-1][0] + pieces[-1][1].nbytes
        if not ring.reserve(slot, nbytes):
            ring.slots.release(slot)
            return False
        for offset, piece in pieces:
            ring.memory[slot.offset + offset : slot.offset + offset + piece.nbytes] = piece
        # Registered before the grants are written: a worker that exits now is counted by `note_gone`.
        self._loading[slot.turn] = (slot, len(workers))
        for worker in workers:
            worker.loading.add(slot.turn)
            worker.outbox += GRANT.pack(MAGIC, GrantKind.STATE, slot.index, slot.turn, nbytes, 0, slot.high_water)
            worker.flush()
        if not workers:
            del self._loading[slot.turn]
            ring.release(slot)
        return True

    def forget_loading(self) -> None:
        """Forget the versions being loaded, after all workers have exited and their slots are free."""
        self._loading.clear()

    def note_loaded(self, ring: "Ring", worker: "WorkerHandle", turn: int) -> None:
        """Record that a worker has loaded the source of this turn, which is in its `loading`."""
        worker.loading.remove(turn)
        slot, missing = self._loading.pop(turn)
        # The slot is released with the last worker, because each reads the patch in its own time.
        if missing > 1:
            self._loading[turn] = (slot, missing - 1)
        else:
            ring.release(slot)

    def note_gone(self, ring: "Ring", worker: "WorkerHandle") -> None:
        """Record that a worker has exited and will load no version."""
        for turn in list(worker.loading):
            self.note_loaded(ring, worker, turn)
