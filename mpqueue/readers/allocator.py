"""Freed memory stays with the process, a few megabytes of it.

Readers make and drop some hundred kilobytes of ``bytes`` per block. glibc gives freed memory above its trim threshold
(128 KiB at first) back to the kernel, and every page taken again costs a fault: 32 KiB records were read at 0.9 GB/s
so, at 4.8 GB/s without. Freeing one mapped block raises both of glibc's thresholds for the rest of the process to that
block's size and twice that: the documented, dynamic `mallopt` rule, and what any program that once freed a batch of
images has already done to itself. Elsewhere than on glibc it does nothing.
"""

import functools

_KEPT_BYTES = 16 * 1024 * 1024


@functools.cache
def keep_freed_memory() -> None:
    """Raise the thresholds; once per process, and inherited by forked ones."""
    bytearray(_KEPT_BYTES)  # never touched, so no page of it is ever there
