"""Text files with a number on each line."""

import pytest

NUMBERS = [*range(5), *range(10, 15), *range(20, 25)]


@pytest.fixture
def numbered_files(tmp_path):
    """Create three files of five lines with the `NUMBERS`, and return their paths."""
    for place in range(3):
        (tmp_path / f"{place}.txt").write_text("".join(f"{number}\n" for number in NUMBERS[5 * place : 5 * place + 5]))
    return [str(tmp_path / f"{place}.txt") for place in range(3)]
