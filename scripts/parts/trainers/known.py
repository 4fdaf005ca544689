"""Differences that versions of a trainer's packages bring, whatever feeds it: each with its reason and its remedy.

A run by such a version is as it is to be if exactly the programs that are named here differ: so a program that differs
for another reason is noticed, and one that does not differ any more.
"""

import re
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import NamedTuple


class Known(NamedTuple):
    """A difference.

    Attributes:
        names: The programs that differ, in their forms.
        package: What makes them differ,
        before: in versions before this one.
        reason: Why.
        remedy: What a user does.
    """

    names: tuple[str, ...]
    package: str
    before: str
    reason: str
    remedy: str

    def is_installed(self) -> bool:
        """Return whether the version that is installed has it."""
        return _numbers(metadata.version(self.package)) < _numbers(self.before)

    def told(self, about: Callable[[str], str]) -> str:
        """Return it as text, for the guide and for who runs the programs."""
        rows = "; ".join(map(about, self.names))
        return f"{self.package} before {self.before}: {rows}. {self.reason} {self.remedy}"


KNOWN = (
    Known(
        ("transformers: map-style", "accelerate: map-style"), "accelerate", "1.15",
        "`skip_first_batches` does not keep the number of the epoch. A training that is resumed after the first epoch "
        "uses the order of the first one, so that some batches of the epoch are lost and others repeated. This also "
        "happens without mpqueue.",
        "Use Accelerate 1.15. Otherwise, use the [callback](#hugging-face-trainer) with the `Trainer`, and "
        "`use_stateful_dataloader=True` in your own loop.",
    ),
)  # fmt: skip


def installed(names: Iterable[str]) -> dict[str, Known]:
    """Return, of programs that were run, those that are known to differ by the versions that are installed."""
    return {name: known for known in KNOWN for name in known.names if name in {*names} and known.is_installed()}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
