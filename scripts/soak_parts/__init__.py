"""The parts of `scripts/soak`.

content   what each batch must be, computed from its numbers
faults    what goes wrong in a worker, and what is done to workers from outside
sources   sources that give the content and carry the faults
rounds    one load from its start to its stop
apart     rounds in a process of their own: that is killed, or whose /dev/shm is full
growth    whether memory, descriptors, threads or processes grow
command   the command line
"""
