"""Large copies that pass the caches by.

A worker writes a batch, and the trainer reads it on another CPU. Kept in the worker's caches it drives out what the
worker needs next, and each of its lines is fetched from memory only to be overwritten. glibc's ``memcpy`` avoids both
from a size on that it derives from the last-level cache. On a virtual machine that size may be the whole host's: 251 MB
were seen where 32 MB of cache are shared with strangers, so that no batch was ever large. There, with two workers on
two CPUs, batches of 19 and of 77 MB came at 1.2 times the rate; smaller ones are left to the caches.

The size is read when a program starts, from ``GLIBC_TUNABLES``. So it is set for the nursery, and with it for all that
is forked from it; in workers the environment is the trainer's again, and a choice of the user's stands.
"""

from collections.abc import Mapping

LARGE_BYTES = 4 << 20  # above any second-level cache
_VARIABLE, _SIZE = "GLIBC_TUNABLES", "glibc.cpu.x86_non_temporal_threshold"


def with_large_copies_uncached(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program whose large copies do so; elsewhere than on glibc and x86 it changes nothing."""
    chosen = environ.get(_VARIABLE, "")
    if _SIZE in chosen:
        return dict(environ)
    wanted = f"{_SIZE}={LARGE_BYTES:#x}"
    return {**environ, _VARIABLE: f"{chosen}:{wanted}" if chosen else wanted}
