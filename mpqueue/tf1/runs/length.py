"""`RunLength`: the number of records in the next run.

A run takes some 0.5 ms plus little for each record. But during a run no example is delivered, a stop is not noticed,
and all of its values are in memory. So the first run has one record, and runs grow while they are fast.
"""

from typing import Final

MAX_RECORDS: Final = 512
_MAX_SECONDS: Final = 0.004
# Limit for the size of the records. The values computed from them are larger, and should fit into the CPU's cache.
_MAX_BYTES: Final = 256 << 10


class RunLength:
    """An adaptive run length, based on measured times."""

    def __init__(self) -> None:
        self._by_time, self._by_bytes = 1.0, float(MAX_RECORDS)

    @property
    def wanted(self) -> int:
        """Number of records for the next run, at least 1."""
        return max(1, int(min(self._by_time, self._by_bytes, MAX_RECORDS)))

    def note(self, num_records: int, num_bytes: int, seconds: float) -> None:
        """Adapt to a finished run."""
        longest = num_records * _MAX_SECONDS / max(seconds, 1e-9)
        self._by_time = min(2 * max(self._by_time, num_records), max(1.0, longest), MAX_RECORDS)
        self._by_bytes = max(1.0, _MAX_BYTES * num_records / max(num_bytes, 1))
