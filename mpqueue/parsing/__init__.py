"""Decoders: bytes to arrays."""
