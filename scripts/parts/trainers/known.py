"""Differences that some versions of a trainer's packages cause with any loader: each with its reason and its remedy.

With such a version, a run passes if exactly the programs that are named here differ. So the script reports a program
that differs for another reason, and one that is fixed.
"""

import re
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import NamedTuple


class Known(NamedTuple):
    """A known difference.

    Attributes:
        names: The variants of programs that differ.
        package: The package that causes the difference.
        before: The first version without the difference.
        reason: The reason.
        remedy: Advice for users.
    """

    names: tuple[str, ...]
    package: str
    before: str
    reason: str
    remedy: str

    def is_installed(self) -> bool:
        """Return whether the installed version has the difference."""
        return _numbers(metadata.version(self.package)) < _numbers(self.before)

    def describe(self, about: Callable[[str], str]) -> str:
        """Return a description for the guide and for the output of the script."""
        rows = "; ".join(map(about, self.names))
        return f"{self.package} before {self.before}: {rows}. {self.reason} {self.remedy}"


KNOWN = (
    Known(
        ("transformers: map-style", "accelerate: map-style"),
        "accelerate",
        "1.15",
        "`skip_first_batches` does not keep the number of the epoch. A training that is resumed after the first epoch "
        "uses the order of the first one, so that some batches of the epoch are lost and others repeated. This also "
        "happens without mpqueue.",
        "Use Accelerate 1.15. Otherwise, use the [callback](../frameworks/trainers.md#hugging-face-trainer) with the "
        "`Trainer`, and `use_stateful_dataloader=True` in your own loop.",
    ),
)


def installed(names: Iterable[str]) -> dict[str, Known]:
    """Return the programs that are known to differ with the installed versions."""
    return {name: known for known in KNOWN for name in known.names if name in {*names} and known.is_installed()}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
