"""Abilities of this system's sockets, as `platform_support` has the others.

They are apart because `socket` takes as long to import as ten modules of ours, and a start in threads needs none.
"""

import socket

# Linux: the kernel has noted who is at the other end of a socket.
HAS_PEER_CREDENTIALS = hasattr(socket, "SO_PEERCRED")
# A send to an end that is gone raises no SIGPIPE; where the flag lacks, Python's ignoring of the signal does that.
NO_SIGPIPE: int = getattr(socket, "MSG_NOSIGNAL", 0)
# Descriptors that come over a socket are not inherited by programs that a thread starts in that moment.
CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
