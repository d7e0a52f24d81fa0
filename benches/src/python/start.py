# Group `start`: processes, from their start to their end, and what one takes.

import multiprocessing
import os
import statistics
import time

MIB = 1 << 20


def noop():
    pass


def idle(connection):
    """Says that it is there, and waits until the other end is closed."""
    connection.send(os.getpid())
    try:
        connection.recv()
    except EOFError:
        pass


class Start:
    """Microseconds from start() to join() returned, the median of n times."""

    def __init__(self, method, heap=0):
        self.context = multiprocessing.get_context(method)
        self.heap = bytearray(b"\x01") * (heap * MIB)

    def run(self, n):
        return statistics.median(self.once() for _ in range(n)) * 1e6

    def once(self):
        process = self.context.Process(target=noop)
        begin = time.perf_counter()
        process.start()
        process.join()
        seconds = time.perf_counter() - begin
        check(process.exitcode, 0)
        process.close()
        return seconds

    def end(self):
        self.heap = None


class ChildPss:
    """KiB of proportional set size of an idle child, the mean of n that are alive together."""

    def __init__(self, method):
        self.context = multiprocessing.get_context(method)

    def run(self, n):
        children = [self.child() for _ in range(n)]
        total = 0
        for process, here in children:
            check(here.recv(), process.pid)
        for process, _ in children:
            total += pss(process.pid)
        for process, here in children:
            here.close()
            process.join()
            check(process.exitcode, 0)
        return total / n

    def child(self):
        here, there = self.context.Pipe()
        process = self.context.Process(target=idle, args=(there,))
        process.start()
        there.close()
        return process, here

    def end(self):
        pass


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError(f"no Pss of process {pid}")


FIGURES |= {
    "start.fork.total": lambda: Start("fork"),
    "start.forkserver.total": lambda: Start("forkserver"),
    "start.spawn.total": lambda: Start("spawn"),
    "start.default.total.0": lambda: Start("fork"),
    "start.default.total.500": lambda: Start("fork", heap=500),
    "start.child_pss": lambda: ChildPss("forkserver"),
}
