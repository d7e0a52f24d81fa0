# Group `sync`: locks.

import multiprocessing
import time


class LockAlone:
    """Nanoseconds of acquire and release by one process."""

    def __init__(self):
        self.lock = multiprocessing.Lock()

    def run(self, n):
        begin = time.perf_counter()
        pairs(self.lock, n)
        seconds = time.perf_counter() - begin
        check(self.lock.acquire(False), True)
        self.lock.release()
        return seconds * 1e9 / n

    def end(self):
        pass


class LockContended:
    """Nanoseconds of acquire and release by two processes at the same time: time of all, by number of all."""

    def __init__(self):
        self.lock = multiprocessing.Lock()
        self.other, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=compete, args=(self.lock, there, self.other))
        self.process.start()
        there.close()

    def run(self, n):
        begin = time.perf_counter()
        self.other.send(n)
        pairs(self.lock, n)
        check(self.other.recv(), n)
        return (time.perf_counter() - begin) * 1e9 / (2 * n)

    def end(self):
        self.other.close()
        self.process.join()


def pairs(lock, n):
    for _ in range(n):
        lock.acquire()
        lock.release()


def compete(lock, there, other):
    def work(n):
        pairs(lock, n)
        return n

    serve(there, [other], work)


FIGURES |= {
    "sync.lock.alone": LockAlone,
    "sync.lock.contended": LockContended,
}
