"""The slots of a ring as a row of boxes, coloured by their states."""

from parts.pictures.svg import Picture

OWNERS = {"leased": "the consumer's", "ready": "the trainer's", "granted": "a worker's", "free": "unused"}
_STEP = 82  # distance between slots


def draw_ring(picture: Picture, x: float, y: float, counts: dict[str, int]) -> None:
    """Add a row of slots, and the owner below each state.

    Args:
        picture: The picture.
        x: Left edge of the first slot.
        y: Upper edge.
        counts: Number of slots in each state, in order.
    """
    for state, count in counts.items():
        for slot in range(count):
            left = x + slot * _STEP
            picture.rectangle(state, left, y, _STEP - 6, 34)
            picture.word(state, left + (_STEP - 6) / 2, y + 22, "dark")
        picture.word(OWNERS[state], x + (count * _STEP - 6) / 2, y + 54, "note")
        x += count * _STEP
