"""Findings of `mpqueue doctor`: each has a verdict, and a remedy where there is something to be done."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: Of the check.
        verdict: "ok"; "note", training works, and could be better; "problem", something of mpqueue will not work.
        found: The state of the machine, in words and figures.
        remedy: The way to better it; empty where there is nothing to do.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


Check: TypeAlias = Callable[[], Finding | None]


def run(checks: Iterable[Check]) -> list[Finding]:
    """Return the findings of all checks; one that fails is a finding, too, and one that means nothing here is left out.

    Args:
        checks: Functions, named after their finding.
    """
    found = []
    for check in checks:
        try:
            finding = check()
        except Exception as error:  # a machine that is odd enough to fail a check is what the user wants to hear of
            name = check.__name__.strip("_").replace("_", " ")
            finding = Finding(name, "problem", f"cannot be looked at: {type(error).__name__}: {error}")
        if finding is not None:
            found.append(finding)
    return found


def size(num_bytes: float) -> str:
    """Return a number of bytes in the unit in which people say it: "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.3g} {unit}" if num_bytes < 100 else f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
