"""A folder for what JAX has compiled, for as long as one run of tests.

Nearly every fit of the tests compiles the same small model, in this process, in those beside it and in programs that a
test starts: most of a fit's time. JAX keeps compiled programs by what they compute and by its version.
"""

import os
import tempfile

_SETTINGS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
_kept = []


def keep_compiled():
    """Have JAX keep what it compiles, unless somebody has chosen a folder: a process that has started this one."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="mpqueue-jax-", ignore_cleanup_errors=True)
    _kept.append(folder)  # removed when the process ends
    os.environ.update({"JAX_COMPILATION_CACHE_DIR": folder.name, **_SETTINGS})
