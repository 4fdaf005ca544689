"""The parts of ``scripts/auto``: sources that compute and wait, and the table of the numbers that "auto" chooses."""
