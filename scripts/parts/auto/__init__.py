"""The parts of ``scripts/auto``: sources that compute and wait, and the table of what "auto" finds for them."""
