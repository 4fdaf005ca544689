"""Findings of `mpqueue doctor`: each has a verdict, and a remedy if something can be improved."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: Name of the check.
        verdict: "ok"; "note": training works, but could be faster or safer; "problem": a part of mpqueue does not work.
        found: The state of the machine, in words and figures.
        remedy: How to improve it; empty if no action is needed.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


Check: TypeAlias = Callable[[], Finding | None]


def run(checks: Iterable[Check]) -> list[Finding]:
    """Return the findings of all checks. A check that fails is a problem; one that does not apply here is left out.

    Args:
        checks: Functions, named after their finding.
    """
    found = []
    for check in checks:
        try:
            finding = check()
        except Exception as error:  # report it, because such a machine is unusual
            name = check.__name__.strip("_").replace("_", " ")
            finding = Finding(name, "problem", f"the check failed: {type(error).__name__}: {error}")
        if finding is not None:
            found.append(finding)
    return found


def size(num_bytes: float) -> str:
    """Return a number of bytes in a suitable unit, such as "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.3g} {unit}" if num_bytes < 100 else f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
