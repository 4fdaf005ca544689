"""A slow reference implementation of TensorFlow's queues, one element at a time.

It has the same queues of attempts as the machine. Each step moves one element of an attempt, and steps repeat until no
attempt can progress. Elements that a failed dequeue had taken return to the front one by one.
"""


class Attempt:
    def __init__(self, kind, elements=(), requested=0, fewer=False):
        self.kind, self.elements, self.requested, self.fewer = kind, list(elements), requested, fewer
        self.taken, self.outcome = [], None

    def __repr__(self):
        return f"{self.kind} {self.outcome}"


class Oracle:
    def __init__(self, capacity, min_after_dequeue=0):
        self.capacity, self.minimum, self.closed = capacity, min_after_dequeue, False
        self.elements, self.enqueues, self.dequeues = [], [], []

    def submit(self, attempt):
        (self.dequeues if attempt.kind == "dequeue" else self.enqueues).append(attempt)
        self.run()

    def close_and_cancel(self):
        self.closed = True
        for attempt in self.enqueues:
            attempt.outcome = "Cancelled"
        self.enqueues = []
        self.run()

    def withdraw(self, attempts):
        for attempt in attempts:
            if attempt.outcome is None:
                (self.dequeues if attempt.kind == "dequeue" else self.enqueues).remove(attempt)
                self.restore(attempt)
                attempt.outcome = "withdrawn"
        self.run()

    def restore(self, attempt):
        while attempt.taken:
            self.elements.insert(0, attempt.taken.pop())

    def run(self):
        while self.step_enqueue() or self.step_dequeue():
            pass

    def step_enqueue(self):
        if not self.enqueues:
            return False
        attempt = self.enqueues[0]
        if self.closed:
            attempt.outcome = "Cancelled"
        elif attempt.kind == "close":
            self.closed, attempt.outcome = True, "ok"
        elif 0 <= self.capacity <= len(self.elements):
            return False
        else:
            self.elements.append(attempt.elements.pop(0))
            attempt.outcome = None if attempt.elements else "ok"
        if attempt.outcome:
            self.enqueues.pop(0)
        return True

    def step_dequeue(self):
        if not self.dequeues:
            return False
        attempt = self.dequeues[0]
        missing = attempt.requested - len(attempt.taken)
        if self.closed and len(self.elements) < missing:
            self.restore(attempt)
            if attempt.fewer and self.elements:
                attempt.requested = len(self.elements)
            else:
                attempt.outcome = "OutOfRange"
        elif len(self.elements) <= (0 if self.closed else self.minimum):
            return False
        else:
            attempt.taken.append(self.elements.pop(0))
            attempt.outcome = "ok" if len(attempt.taken) == attempt.requested else None
        if attempt.outcome:
            self.dequeues.pop(0)
        return True
