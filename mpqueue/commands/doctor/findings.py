"""Findings of `mpqueue doctor`: each has a verdict, and a remedy if something can be improved."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

Verdict = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        verdict: "ok"; "note": training works, but could be faster or safer; "problem": a part of mpqueue does not work.
        found: The state of the machine, in words and figures.
        remedy: How to improve it; empty if no action is needed.
    """

    verdict: Verdict
    found: str
    remedy: str = ""


Check: TypeAlias = Callable[[], Finding]


def run(check: Check) -> Finding:
    """Return the finding of a check; a check that fails is a problem."""
    try:
        return check()
    except Exception as error:  # report it, because such a machine is unusual
        return Finding("problem", f"the check failed: {type(error).__name__}: {error}")


def size(num_bytes: float) -> str:
    """Return a number of bytes in a suitable unit, such as "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.3g} {unit}" if num_bytes < 100 else f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
