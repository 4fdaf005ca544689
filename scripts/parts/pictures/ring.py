"""The slots of a ring as a row of boxes, coloured by their states."""

from parts.pictures.svg import Picture

OWNERS = {"leased": "the consumer's", "ready": "the trainer's", "granted": "a worker's", "free": "nobody's"}
_STEP = 82  # from one slot to the next


def draw_ring(picture: Picture, x: float, y: float, counts: dict[str, int]) -> None:
    """Add a row of slots, and below each state whose they are.

    Args:
        picture: To add them to.
        x: Of the first slot's left edge.
        y: Of the upper edge.
        counts: How many slots of each state, in order.
    """
    for state, count in counts.items():
        for slot in range(count):
            left = x + slot * _STEP
            picture.rectangle(state, left, y, _STEP - 6, 34)
            picture.word(state, left + (_STEP - 6) / 2, y + 22, "dark")
        picture.word(OWNERS[state], x + (count * _STEP - 6) / 2, y + 54, "note")
        x += count * _STEP
