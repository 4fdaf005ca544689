"""Items that are identified by their bytes."""

import numpy as np
import torch

SIDE = 224


class Numbered(torch.utils.data.Dataset):
    """Images. Every byte is the number of the item, modulo 251."""

    def __init__(self, num_items: int, side: int = SIDE) -> None:
        self.num_items, self.side = num_items, side

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((self.side, self.side, 3), index % 251, np.uint8), index
