"""A bound on waits that end at once unless something hangs."""

DEADLOCK_S = 60
