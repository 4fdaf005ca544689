"""The name of this process, as `ps`, `top` and `pgrep` show it."""

_MAX_BYTES = 15  # the kernel keeps no more


def set_process_name(name: str) -> None:
    """Set the name of this process; has no effect on systems without such names."""
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(name.encode()[:_MAX_BYTES])
    except OSError:  # no /proc, or not writable: the name is not essential
        return


def worker_name(index: int) -> str:
    """Return the name of a worker process; if it is too long, the word is cut, not the index."""
    return f"{'mpqueue-worker'[: _MAX_BYTES - len(str(index))]}{index}"
