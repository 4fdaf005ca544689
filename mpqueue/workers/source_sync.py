"""The versions of the source: which worker has which one, and how a new one gets to them.

The trainer's source may change between epochs, in `on_epoch_end` or by the program around it, and between two starts.
Before a batch of the next epoch is handed out, its image is compared with what the workers have, by its pickle and by
the bytes of its big arrays. If it has changed, what they have computed ahead is dropped, and the fork server gets what
it lacks, for the workers that it will fork. The living ones are sent the same patch through a free slot, if it is
small; a big one would be copied once per worker, so then they are forked anew and share it. The arrays that have not
changed they have, and put them back to what was sent, as a worker finds them that is forked in place of a dead one. The
slot is free again when each of them has loaded the patch, or is gone.

Workers that were forked from the trainer have no image to compare: they are forked anew at every change of epoch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpqueue.memory.slots import Slot
from mpqueue.system import platform_support
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.workers.launcher import ForkServer, Launcher, LauncherGone, take_fork_server
from mpqueue.workers.source_send import Patch, SourceImage, UnpicklableSource, encode_patch
from mpqueue.workers.source_watch import SourceWatch

if TYPE_CHECKING:
    from mpqueue.workers.handle import WorkerHandle
    from mpqueue.workers.pool import WorkerPool

_MAX_PUSH_BYTES = 16 << 20


class SourceSync:
    """The payload of one pool, and its image in the workers.

    Args:
        watch: Watches the payload: the source and `worker_init`.
        image: The payload's image, None if workers are forked from the trainer.
        spawn: Workers are fresh interpreters.
        make_launcher: Makes the launcher of a pool that has several machines; it needs an image. None: a fork server.
    """

    def __init__(
        self,
        watch: SourceWatch,
        image: SourceImage | None,
        *,
        spawn: bool,
        make_launcher: Callable[[], Launcher] | None = None,
    ) -> None:
        self._watch, self._image, self._spawn, self._make_launcher = watch, image, spawn, make_launcher
        self._begun: ForkServer | None = None
        self._launcher: Launcher | None = None  # which has the image
        self._loading: dict[int, tuple[Slot, int]] = {}  # by turn: its slot, and how many workers have not loaded it

    def begin(self) -> None:
        """Have the fork server start, if it was not begun: as an interpreter it takes longer than all else.

        Raises:
            OSError: There are not enough processes or descriptors.
        """
        if self._begun is None and self._image is not None and self._make_launcher is None:
            self._begun = take_fork_server(spawn=self._spawn)

    def drop(self) -> None:
        """End what was begun and not launched."""
        fork_server, self._begun = self._begun, None
        if fork_server is not None:
            fork_server.end()

    def launch(self) -> Launcher:
        """Return a launcher whose workers have the source as it was last seen.

        Raises:
            LauncherGone: The fork server died while it was sent the source.
            OSError: There are not enough processes or descriptors.
        """
        if self._image is None:
            from mpqueue.workers.forker import Forker  # with all that runs in a worker

            return Forker(self._watch.payload)
        if self._make_launcher is not None:
            launcher = self._make_launcher()
        else:
            launcher, self._begun = self._begun or take_fork_server(spawn=self._spawn), None
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
        """True if workers are forked from the trainer, and have its source as it was then."""
        return self._image is None

    def is_stale(self) -> bool:
        """Return whether the source has changed since the workers got it; of an inherited one nobody can tell."""
        return self._image is None or self._launcher is None or not self._launcher.has_image(self._take_image())

    def refresh(self, pool: "WorkerPool") -> bool:
        """Make the workers compute from the source's present state; False: they have to be started anew for it."""
        if self._image is None:
            return False
        self._image = self._take_image()
        launcher, self._launcher = pool.roster.launcher, None
        if launcher is None:
            return False
        try:
            patch = launcher.set_image(self._image)
        except LauncherGone:
            return False  # the new start notices it, too
        self._launcher = launcher
        if patch is None:
            return True
        is_small = patch.nbytes <= _MAX_PUSH_BYTES and (platform_support.CAN_DROP_PAGES or not patch.old)
        return is_small and self._push(pool, patch)

    def _take_image(self) -> SourceImage:
        try:
            return self._watch.take_image()
        except UnpicklableSource as error:
            raise UnpicklableSource(f"the source has changed since the workers got it: {error}") from error

    def equip(self, launcher: Launcher) -> None:
        """Have a launcher start workers with the source as it was last seen.

        Raises:
            LauncherGone: The fork server has died.
        """
        if self._image is not None and launcher is not self._launcher:
            self._launcher = None
            launcher.set_image(self._image)
            self._launcher = launcher

    def _push(self, pool: "WorkerPool", patch: Patch) -> bool:
        """Send a patch to the living workers; False if there is no slot, or no memory, for it."""
        ring, workers = pool.ring, list(pool.roster.workers.values())
        slot = ring.grant(-1)
        if slot is None:
            return False
        pieces = encode_patch(patch)
        nbytes = pieces[-1][0] + pieces[-1][1].nbytes
        if not ring.reserve(slot, nbytes):
            ring.slots.release(slot)
            return False
        for offset, piece in pieces:
            ring.memory[slot.offset + offset : slot.offset + offset + piece.nbytes] = piece
        self._loading[slot.turn] = (slot, len(workers))
        for worker in workers:
            worker.loading.add(slot.turn)
            worker.outbox += GRANT.pack(MAGIC, GrantKind.STATE, slot.number, slot.turn, nbytes, 0, slot.high_water)
            worker.flush()
        if not workers:
            del self._loading[slot.turn]
            ring.release(slot)
        return True

    def forget_loading(self) -> None:
        """Forget what is being loaded: all workers are gone, and their slots are free."""
        self._loading.clear()

    def note_loaded(self, pool: "WorkerPool", worker: "WorkerHandle", turn: int) -> None:
        """Enter that a worker has loaded the source of this turn."""
        if turn not in worker.loading:
            return  # it has said so before
        worker.loading.remove(turn)
        slot, missing = self._loading.pop(turn)
        if missing > 1:
            self._loading[turn] = (slot, missing - 1)
        else:
            pool.ring.release(slot)

    def note_gone(self, pool: "WorkerPool", worker: "WorkerHandle") -> None:
        """Enter that a worker is gone, and loads nothing any more."""
        for turn in list(worker.loading):
            self.note_loaded(pool, worker, turn)
