"""Scripts with one reader and one queue of work units."""

from functools import partial

from golden.topics import readers

import mpqueue.compat.v1 as tf


def run(case, session):
    def make():
        reader = readers.make_reader(case["reader"], tf)
        session.run(reader.reader_ref)
        return reader

    readers.play(case, make, partial(Script, session))


class Script(readers.Script):
    """The same steps on nodes."""

    def __init__(self, session, reader):
        queue = tf.FIFOQueue(100, [tf.string], [()])
        self.reader, self.queue = Run(reader, session), Run(queue, session)
        self.reader_node, self.queue_node, self.session = reader, queue, session
        self.states = {}
        self.reading = None

    def record(self, step):
        if "n" in step:
            key, value = self.session.run(self.reader_node.read_up_to(self.queue_node, step["n"]))
        else:
            key, value = self.session.run(self.reader_node.read(self.queue_node))
        return {"key": key, "value": value}


class Run:
    """Call a method that creates nodes, and run them."""

    def __init__(self, maker, session):
        self._maker, self._session = maker, session

    def __getattr__(self, name):
        return lambda *args, **options: self._session.run(getattr(self._maker, name)(*args, **options))
