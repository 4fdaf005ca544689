"""Tells peers where the queues of a server are; the first peer makes the server create their directory."""

import os

from mpqueue.service.connections import Peer, Reception
from mpqueue.service.handshake import Welcome
from mpqueue.service.server_directory import ServerDirectory
from mpqueue.tf1.queues.host import QueueHost


class QueueDesk:
    """See the module's head. Used by the server's thread, but for `close`.

    Args:
        directory: Of the server, which has claimed it.

    Attributes:
        host: The directory of the queues; None: nobody has asked for it.
    """

    def __init__(self, directory: ServerDirectory) -> None:
        self._directory = directory
        self.host: QueueHost | None = None

    def answer(self, peer: Peer, reception: Reception) -> None:
        """Tell a stranger, and end its connection."""
        uid = peer.credentials.uid
        if uid not in (os.geteuid(), 0):
            # Elements lie in memory that all who are connected can write to.
            reception.refuse(peer, f"uid {uid} may not use the queues of uid {os.geteuid()}: they are its own")
            return
        try:
            if self.host is None:
                self.host = QueueHost(self._directory.folder)
        except OSError as error:
            reception.refuse(peer, f"there is no room for queues: {error}")
            return
        welcome = Welcome(
            name=self._directory.name, mode=None, world=None, job="", length=None, epoch=0, window=0, segment_bytes=0,
            stride=0, uid=os.geteuid(), pid=os.getpid(), queues=self.host.place,
            queues_token=self.host.address.token.hex(),
        )  # fmt: skip
        peer.send_now(welcome.encode())
        reception.drop(peer)

    def close(self) -> None:
        """End all queues, if the server's thread has ended."""
        if self.host is not None:
            self.host.stop()
