"""The source as the workers have it: who has which version, and how a new one gets there.

The trainer's source may change between epochs, in `on_epoch_end`, and between two starts. Before any work of the next
epoch is dealt, its image is compared with what the workers have, by its pickle and by the bytes of its big arrays. If
it has changed, the nursery gets what it lacks, for the workers that it will fork. The living ones are sent the same
patch through a free slot, if it is small; a big one would be copied once per worker, so then they are forked anew and
share it.

Workers that were forked from the trainer have no image to compare: they are forked anew at every change of epoch.
"""

from typing import TYPE_CHECKING

from mpqueue.memory.slots import Slot
from mpqueue.workers.launcher import Forker, Launcher, LauncherGone, Nursery, take_nursery
from mpqueue.workers.records import GRANT, MAGIC, Down
from mpqueue.workers.source_send import Patch, SourceImage, encode_patch, make_patch, take_image
from mpqueue.workers.worker_main import Payload

if TYPE_CHECKING:
    from mpqueue.workers.process import ProcessBackend

_MAX_PUSH_BYTES = 16 << 20


class SourceState:
    """The payload of one pool, and its image in the workers.

    Args:
        payload: The source and `worker_init`.
        image: The payload's image, None if workers are forked from the trainer.
        spawn: Workers are fresh interpreters.
    """

    def __init__(self, payload: Payload, image: SourceImage | None, *, spawn: bool) -> None:
        self._payload, self._image, self._spawn = payload, image, spawn
        self._begun: Nursery | None = None
        self._loading: dict[int, tuple[Slot, int]] = {}  # by turn: its slot, and how many workers have not loaded it

    def begin(self) -> None:
        """Have the nursery start while the ring is made: as an interpreter it takes longer than all else.

        Raises:
            OSError: There are not enough processes or descriptors.
        """
        if self._image is not None:
            self._begun = take_nursery(spawn=self._spawn)

    def drop(self) -> None:
        """End what was begun and not launched."""
        nursery, self._begun = self._begun, None
        if nursery is not None:
            nursery.end()

    def launch(self) -> Launcher:
        """A launcher whose workers have the source as it was last seen.

        Raises:
            LauncherGone: The nursery died while it was told of the source.
            OSError: There are not enough processes or descriptors.
        """
        if self._image is None:
            return Forker(self._payload)
        nursery, self._begun = self._begun or take_nursery(spawn=self._spawn), None
        try:
            self.equip(nursery)
        except LauncherGone:
            raise LauncherGone(nursery.end()) from None
        except BaseException:
            nursery.end()
            raise
        return nursery

    def is_stale(self) -> bool:
        """Whether the source has changed since the workers got it; without an image nobody can tell."""
        return self._image is None or take_image(self._payload).fingerprint != self._image.fingerprint

    def refresh(self, backend: "ProcessBackend") -> None:
        """The source may have changed: make the workers compute from its present state."""
        if self._image is None:
            backend.restart_workers()
            return
        image = take_image(self._payload)
        if image.fingerprint == self._image.fingerprint:
            return
        patch = make_patch(image, self._image.digests)
        self._image = image
        launcher = backend.roster.launcher
        try:
            if launcher is not None and patch.nbytes <= _MAX_PUSH_BYTES:
                self.equip(launcher)
                if self._push(backend, patch):
                    return
        except LauncherGone:
            pass  # the restart notices it, too
        backend.restart_workers()

    def equip(self, launcher: Launcher) -> None:
        """Have a launcher start workers with the source as it was last seen.

        Raises:
            LauncherGone: The nursery has died.
        """
        if self._image is not None:
            launcher.set_image(self._image)

    def _push(self, backend: "ProcessBackend", patch: Patch) -> bool:
        """Send a patch to the living workers; False if there is no slot, or no memory, for it."""
        ring, links = backend.ring, list(backend.roster.links.values())
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
        self._loading[slot.turn] = (slot, len(links))
        for link in links:
            link.states.add(slot.turn)
            link.outbox += GRANT.pack(MAGIC, Down.STATE, slot.number, slot.turn, nbytes, 0, slot.high_water)
            link.flush()
        if not links:
            self.loaded(backend, slot.turn)
        return True

    def forget_loading(self) -> None:
        """All workers are gone, and their slots are free."""
        self._loading.clear()

    def loaded(self, backend: "ProcessBackend", turn: int) -> None:
        """One worker has loaded the state of this turn, or is gone."""
        slot, missing = self._loading.pop(turn)
        if missing > 1:
            self._loading[turn] = (slot, missing - 1)
        else:
            backend.ring.release(slot)
