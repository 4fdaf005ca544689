"""Partial runs of separate commands, combined into the output of one command.

So a long run can be interrupted after any workload and continued later. All rounds of a workload are interleaved in the
same part, so its ratios are measured at the same time.
"""

from collections.abc import Iterable
from typing import Any

_SAME = ("machine", "workers", "commit", "cost_heads")  # equal in all parts


def join(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Combine the parts into one run.

    Args:
        parts: Outputs of ``scripts/benchmark.py --json`` for different workloads.

    Raises:
        ValueError: The parts have different commits, machines or numbers of workers, or share a measurement.
    """
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key not in whole:
                whole[key] = value
            elif key in _SAME:
                if whole[key] != value:
                    raise ValueError(f"{key} must be equal in all parts, got {whole[key]!r} and {value!r}")
            elif key == "date":
                whole[key] = max(whole[key], value)
            elif key == "rates":
                _check_duplicates(whole[key], value)
                whole[key] = whole[key] + value
            elif isinstance(value, list):
                whole[key] = whole[key] + [one for one in value if one not in whole[key]]
            else:
                whole[key] = whole[key] | value
    return whole


def _check_duplicates(rates: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    twice = {row["workload"] for row in rates} & {row["workload"] for row in more}
    if twice:
        raise ValueError(f"two parts contain {', '.join(sorted(twice))}: remove it from one part")
