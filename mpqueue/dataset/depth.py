"""Room on Python's stack for trees of many stages.

A stage asks the stage before it, so a chain of 5,000 stages is as many calls deep. Python stops at 1,000 by default.
That limit protects the stack of C, which calls between functions of Python do not use. All calls from stage to stage
are of that kind, so a higher limit is safe where a tree is deep. It holds for the whole process. It is raised by as
much as the deepest tree needs, and never lowered, because another thread may be deep in a tree.
"""

import sys

_FRAMES = 8  # of a stage at most: its own, those that part its places, a clock
_DEEP = 20  # stages that need no more room than any program has


def make_room(depth: int) -> None:
    """Allow calls as deep as a tree needs, in addition to those that the program may have.

    Args:
        depth: The number of stages in a row.
    """
    if depth <= _DEEP:
        return
    needed = _limit + _FRAMES * depth
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)


_limit = sys.getrecursionlimit()
