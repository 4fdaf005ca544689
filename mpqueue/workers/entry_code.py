"""The command lines of fresh interpreters that become a fork server, or a worker.

In a module of its own: the trainer starts fork servers, and need not import what runs in one.
"""

# What follows the path entries in argv differs; the path itself comes first, so that `mpqueue` is found. Imports make
# no garbage: without collections NumPy and this package are there in 99 ms instead of 105.
_CODE = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv[1:-{}]; from mpqueue.workers import fork_server as f; f.{}()"
)
NUM_SPAWN_FDS = 4  # socket, two lifelines, and the life pipe, which is -1 where there are pidfds
SPAWN_CODE, FORK_SERVER_CODE = _CODE.format(NUM_SPAWN_FDS, "spawned"), _CODE.format(2, "main")
