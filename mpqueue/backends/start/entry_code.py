"""The command lines of fresh interpreters that become a fork server or a worker.

This module is separate so that a trainer that starts a fork server need not import what runs in one.
"""

# The trainer may have closed its standard streams. They are opened before all imports: a library may open a file when
# it is loaded, such as libffi, and that file would get the number of a stream. Spawned workers inherit the streams.
_STREAMS = (
    "import gc, os, sys\n"
    "while (fd := os.open(os.devnull, os.O_RDWR)) <= 2: os.set_inheritable(fd, True)\n"
    "os.close(fd)\n"
)
# The entries of `sys.path` are first, so that `mpqueue` is found; different arguments follow. Imports create no
# garbage: without collections, NumPy and this package load in 99 ms instead of 105.
_CODE = (
    _STREAMS
    + "gc.disable(); sys.path[:] = sys.argv[1:-{}]; from mpqueue.backends.start import fork_server as f; f.{}()"
)
NUM_SPAWN_FDS = 4  # socket, two lifelines, and the life pipe, which is -1 if there are pidfds
SPAWN_CODE, FORK_SERVER_CODE = _CODE.format(NUM_SPAWN_FDS, "spawned"), _CODE.format(2, "main")
