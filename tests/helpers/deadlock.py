"""A limit for waits that return at once unless a deadlock exists."""

DEADLOCK_S = 60
