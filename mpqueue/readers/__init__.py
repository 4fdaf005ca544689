"""Readers turn work units (file names) into records."""
