"""The clock for times of batches, which is the same in all processes of a machine."""

import time

clock_ns = time.perf_counter_ns
EVERY_NS = 5_000_000  # at most one batch of a worker is timed per interval of this length
