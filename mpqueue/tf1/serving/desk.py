"""Sends the address of a server's queues to clients, and creates the queue host at the first request."""

import os

from mpqueue.service.connections import Peer, Reception
from mpqueue.service.handshake import Welcome
from mpqueue.service.server_directory import ServerDirectory
from mpqueue.tf1.queues.host import QueueHost


class QueueDesk:
    """Answers requests for the address of a server's queues.

    Only the server's thread may use it, except for `close`.

    Args:
        directory: Directory of the server, which the server has claimed.

    Attributes:
        host: The queue host, or None before the first request.
    """

    def __init__(self, directory: ServerDirectory) -> None:
        self._directory = directory
        self.host: QueueHost | None = None

    def answer(self, peer: Peer, reception: Reception) -> None:
        """Send the address to a new connection, and close it."""
        uid = peer.credentials.uid
        if uid not in (os.geteuid(), 0):
            # All connected processes can write to the memory of the elements.
            reception.refuse(peer, f"uid {uid} may not use the queues of uid {os.geteuid()}")
            return
        try:
            if self.host is None:
                self.host = QueueHost(self._directory.folder)
        except OSError as error:
            reception.refuse(peer, f"cannot create queues: {error}")
            return
        welcome = Welcome(
            name=self._directory.name, mode=None, world=None, job="", length=None, epoch=0, segment_bytes=0,
            stride=0, pid=os.getpid(), queues=self.host.place,
            queues_token=self.host.address.token.hex(),
        )  # fmt: skip
        peer.send_now(welcome.encode())
        reception.drop(peer)

    def close(self) -> None:
        """Delete all queues. The server's thread must not be running."""
        if self.host is not None:
            self.host.stop()
