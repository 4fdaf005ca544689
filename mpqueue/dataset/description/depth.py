"""Stack space for trees of many stages.

Each stage calls the stage before it, so a chain of 5,000 stages is 5,000 calls deep. Python's default limit is 1,000.
The limit protects the C stack, which calls between Python functions do not use. All calls between stages are of that
kind, so a higher limit is safe for a deep tree. The limit applies to the whole process. It is raised by the amount that
the deepest tree needs, and never lowered, because another thread may be deep in a tree.
"""

import sys

_FRAMES = 8  # at most per stage: the stage, the functions that split its indices, a clock
_DEEP = 20  # number of stages that the default limit allows


def make_room(depth: int) -> None:
    """Allow the call depth that a tree needs, in addition to the current limit.

    Args:
        depth: The number of stages in a row.
    """
    if depth <= _DEEP:
        return
    needed = _limit + _FRAMES * depth
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)


_limit = sys.getrecursionlimit()
