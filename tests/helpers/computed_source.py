"""Sources of items that a function computes."""


class Computed:
    """A source with item i that a function returns for i."""

    def __init__(self, function, length=8):
        self.function, self.length = function, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.function(index)


class AtOnce(Computed):
    """The same source, which also returns the items of several indices at once."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]
