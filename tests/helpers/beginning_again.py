"""An iterator that begins again whenever `iter` is called."""


class BeginsAgain:
    """The numbers 0 to n - 1; it is its own iterator."""

    def __init__(self, n=12):
        self.n, self.at = n, 0

    def __iter__(self):
        self.at = 0
        return self

    def __next__(self):
        if self.at == self.n:
            raise StopIteration
        self.at += 1
        return self.at - 1
