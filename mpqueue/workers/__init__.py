"""The processes and threads that run a source."""
