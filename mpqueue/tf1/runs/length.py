"""`RunLength`: the number of records of the next run.

A run costs some 0.5 ms whatever its length, and then little for each record; but while it is computed nobody gets its
examples, a stop is not noticed, and all of it is in memory. So runs begin with one record and become longer as long as
they are quick.
"""

from typing import Final

MAX_RECORDS: Final = 512
_MAX_SECONDS: Final = 0.004
_MAX_BYTES: Final = 256 << 10  # of records; what is made of them is larger, and should stay in the processor's cache


class RunLength:
    """The length of runs, as measured."""

    def __init__(self) -> None:
        self._by_time, self._by_bytes = 1.0, float(MAX_RECORDS)

    @property
    def wanted(self) -> int:
        """Number of records that the next run should have, at least one."""
        return max(1, int(min(self._by_time, self._by_bytes, MAX_RECORDS)))

    def note(self, num_records: int, num_bytes: int, seconds: float) -> None:
        """Learn from a run: how many records it had, of how many bytes, and how long it took."""
        longest = num_records * _MAX_SECONDS / max(seconds, 1e-9)
        self._by_time = min(2 * max(self._by_time, num_records), max(1.0, longest), MAX_RECORDS)
        self._by_bytes = max(1.0, _MAX_BYTES * num_records / max(num_bytes, 1))
