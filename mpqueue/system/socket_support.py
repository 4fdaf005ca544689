"""Abilities of this system's sockets, in addition to `platform_support`.

A separate module, because importing `socket` takes as long as importing ten of our modules, and threads do not need
it.
"""

import socket

# Linux: the kernel has recorded the process at the other end of a socket.
HAS_PEER_CREDENTIALS = hasattr(socket, "SO_PEERCRED")
# A send to a closed end raises no SIGPIPE; without the flag, Python's default of ignoring the signal has that effect.
NO_SIGPIPE: int = getattr(socket, "MSG_NOSIGNAL", 0)
# Descriptors received over a socket are not inherited by a program that another thread starts at the same time.
CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
