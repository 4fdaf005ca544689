"""The slots of a ring as a row of boxes, coloured by their states."""

from parts.pictures.svg import Picture

OWNERS = {"leased": "the consumer's", "ready": "the trainer's", "granted": "a worker's", "free": "nobody's"}


def draw_ring(picture: Picture, x: float, y: float, counts: dict[str, int], *, step: float = 82) -> None:
    """Add a row of slots, and below each state whose they are.

    Args:
        picture: To add them to.
        x: Of the first slot's left edge.
        y: Of the upper edge.
        counts: How many slots of each state, in order.
        step: From one slot to the next.
    """
    for state, count in counts.items():
        for slot in range(count):
            left = x + slot * step
            picture.rectangle(state, left, y, step - 6, 34)
            picture.word(state, left + (step - 6) / 2, y + 22, "dark")
        picture.word(OWNERS[state], x + (count * step - 6) / 2, y + 54, "note")
        x += count * step
