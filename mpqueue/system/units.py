"""Numbers as strings with a suitable unit."""


def time_text(seconds: float) -> str:
    """Return a duration as a string."""
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs" if seconds >= 1e-8 else "0 µs"  # no clock resolves less than 10 ns


def size_text(num_bytes: float) -> str:
    """Return a number of bytes as a string."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return a number of things as a string.

    Args:
        count: The number.
        one: The noun for one thing.
        many: The noun for several; None: ``one`` with an "s", or with "es" as in "batches" and "processes".
    """
    ending = "es" if one.endswith(("ch", "s")) else "s"
    return f"{count:,} {one if count == 1 else many or one + ending}"


def rate_text(per_s: float) -> str:
    """Return a rate as a string without its unit."""
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def share_text(share: float) -> str:
    """Return a share of a whole as a string, in percent."""
    return f"{100 * share:.0f} %"
