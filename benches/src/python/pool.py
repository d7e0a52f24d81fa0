# Group `pool`: tasks of a pool.

import multiprocessing
import time

WORKERS = 2


def identity(x):
    return x


class Pool:
    """Tasks a second of a pool, with the default context."""

    def __init__(self, verb):
        self.pool = multiprocessing.Pool(WORKERS)
        self.verb = verb

    def run(self, n):
        begin = time.perf_counter()
        results = self.verb(self.pool, n)
        seconds = time.perf_counter() - begin
        check(results == list(range(n)), True)
        return n / seconds

    def end(self):
        self.pool.close()
        self.pool.join()


def apply(pool, n):
    return [pool.apply(identity, (x,)) for x in range(n)]


def apply_async(pool, n):
    handles = [pool.apply_async(identity, (x,)) for x in range(n)]
    return [handle.get() for handle in handles]


def map_chunk1(pool, n):
    return pool.map(identity, range(n), chunksize=1)


def map_auto(pool, n):
    return pool.map(identity, range(n))


FIGURES |= {
    "pool.apply": lambda: Pool(apply),
    "pool.apply_async": lambda: Pool(apply_async),
    "pool.map_chunk1": lambda: Pool(map_chunk1),
    "pool.map_auto": lambda: Pool(map_auto),
}
