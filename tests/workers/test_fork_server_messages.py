"""Messages between a trainer and its fork server arrive completely or not at all."""

import os
import socket

import pytest

from mpqueue.workers import fork_server_messages as messages


class Cutting:
    """A socket of a sender that is killed after the given number of bytes."""

    def __init__(self, sock, num_bytes):
        self.sock, self.left = sock, num_bytes

    def sendmsg(self, buffers, *rest):
        return self.sock.sendmsg([self._cut(b"".join(buffers))], *rest)

    def sendall(self, data, flags):
        self.sock.sendall(self._cut(data), flags)

    def _cut(self, data):
        piece = bytes(data)[: self.left]
        self.left -= len(piece)
        return piece


@pytest.mark.parametrize("num_bytes", [1, 14, 20, 40, 50])
def test_descriptors_of_a_truncated_message_are_closed(num_bytes):
    before = os.listdir("/proc/self/fd")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs, open(os.devnull) as sent:
            messages.send(Cutting(theirs, num_bytes), 1, "a body, which is longer than the others", [sent.fileno()])
        assert messages.receive(ours, messages.TO_FORK_SERVER) is None
    assert os.listdir("/proc/self/fd") == before
