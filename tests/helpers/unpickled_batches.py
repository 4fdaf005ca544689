"""Workers that raise if a part of a batch is pickled, or is not in the slot before the batch is placed."""

from mpqueue.memory import writer


def copies_nothing(monkeypatch):
    """Return the options of a loader with such a worker, which is forked from this process."""

    def place(self):
        assert self._objects is None, "a part of the batch is pickled"
        assert not any(array.size for array in self._arrays), "a part of the batch is copied"
        return placed(self)

    placed = writer.SlotWriter.place
    monkeypatch.setattr(writer.SlotWriter, "place", place)
    return {"workers": 1, "start_method": "fork"}
