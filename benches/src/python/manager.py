# Group `manager`: objects that live in the process of a manager.

import time
from multiprocessing.managers import BaseManager


class Counter:
    def __init__(self):
        self.total = 0

    def add(self, n):
        self.total += n
        return self.total


class CounterManager(BaseManager):
    pass


CounterManager.register("Counter", Counter)


class Calls:
    """Calls a second of a method of an object in a manager's process."""

    def __init__(self):
        self.manager = CounterManager()
        self.manager.start()
        self.counter = self.manager.Counter()
        self.before = 0

    def run(self, n):
        begin = time.perf_counter()
        totals = [self.counter.add(1) for _ in range(n)]
        seconds = time.perf_counter() - begin
        check(totals == list(range(self.before + 1, self.before + n + 1)), True)
        self.before += n
        return n / seconds

    def end(self):
        self.manager.shutdown()


FIGURES |= {
    "actor.call": Calls,
    "actor.call.pipelined": Calls,
}
