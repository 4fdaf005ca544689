"""The name of this process, as `ps`, `top` and `pgrep` show it."""

_MAX_BYTES = 15  # what the kernel keeps


def set_process_name(name: str) -> None:
    """Name this process; nothing happens where the system has no such names."""
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(name.encode()[:_MAX_BYTES])
    except OSError:  # no /proc, or not writable: a name is not worth an error
        return


def worker_name(number: int) -> str:
    """Return the name of a worker process: the word is cut, not its number."""
    return f"{'mpqueue-worker'[: _MAX_BYTES - len(str(number))]}{number}"
