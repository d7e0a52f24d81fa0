"""CPython's side of the figures: reads requests from standard input, answers on standard output (see python.rs)."""

import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import time
from multiprocessing.managers import BaseManager

MIB = 1 << 20
WORKERS = 2


def noop():
    pass


def identity(x):
    return x


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


def serve(there, ends, work):
    """Works whenever it is told how much, until the other end is closed. A copy among `ends` would keep it open."""
    for end in ends:
        end.close()
    try:
        while True:
            there.send(work(there.recv()))
    except EOFError:
        pass


def produce(queue, size, there, ends):
    tail = b"\x5a" * (size - 8)

    def work(n):
        total = 0
        for number in range(n):
            queue.put(number.to_bytes(8, "little") + tail)
            total += number + size
        return total

    serve(there, ends, work)


def consume(queue, there, ends):
    def work(n):
        total = 0
        for _ in range(n):
            message = queue.get()
            total += int.from_bytes(message[:8], "little") + len(message)
        return total

    serve(there, ends, work)


def produce_records(queue, size, there, ends):
    def work(n):
        total = 0
        for number in range(n):
            record = (number, "name of a record", b"\x5a" * size)
            queue.put(record)
            total += number + len(record[1]) + size
        return total

    serve(there, ends, work)


def consume_records(queue, there, ends):
    def work(n):
        total = 0
        for _ in range(n):
            number, name, data = queue.get()
            total += number + len(name) + len(data)
        return total

    serve(there, ends, work)


class Queue:
    """Messages a second from producers to as many consumers."""

    def __init__(self, size, pairs=1, producer=produce, consumer=consume):
        self.queue = multiprocessing.Queue()
        self.lines, self.processes = [], []
        for _ in range(pairs):
            self.start(producer, size)
        for _ in range(pairs):
            self.start(consumer)
        self.pairs = pairs

    def start(self, target, *args):
        line, there = multiprocessing.Pipe()
        self.lines.append(line)
        process = multiprocessing.Process(target=target, args=(self.queue, *args, there, list(self.lines)))
        process.start()
        self.processes.append(process)
        there.close()

    def run(self, n):
        each = -(-n // self.pairs)
        begin = time.perf_counter()
        for line in self.lines:
            line.send(each)
        sums = [line.recv() for line in self.lines]
        seconds = time.perf_counter() - begin
        check(sum(sums[self.pairs :]), sum(sums[: self.pairs]))
        return each * self.pairs / seconds

    def end(self):
        for line in self.lines:
            line.close()
        for process in self.processes:
            process.join()


def echo(there, back):
    while True:
        back.put(there.get())


class PingPong:
    """Microseconds of a round trip over two queues."""

    def __init__(self):
        self.there, self.back = multiprocessing.Queue(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=echo, args=(self.there, self.back), daemon=True)
        self.process.start()

    def run(self, n):
        begin = time.perf_counter()
        for number in range(n):
            message = number.to_bytes(8, "little")
            self.there.put(message)
            check(self.back.get(), message)
        return (time.perf_counter() - begin) * 1e6 / n

    def end(self):
        self.process.terminate()
        self.process.join()


FIGURES = {
    "queue.bytes.8": lambda: Queue(8),
    "queue.bytes.256": lambda: Queue(256),
    "queue.bytes.4096": lambda: Queue(4096),
    "queue.bytes.65536": lambda: Queue(65536),
    "queue.bytes.1048576": lambda: Queue(1048576),
    "queue.bytes.8.2p2c": lambda: Queue(8, 2),
    "queue.bytes.256.2p2c": lambda: Queue(256, 2),
    "queue.bytes.4096.2p2c": lambda: Queue(4096, 2),
    "queue.bytes.65536.2p2c": lambda: Queue(65536, 2),
    "queue.bytes.1048576.2p2c": lambda: Queue(1048576, 2),
    "queue.bytes.256.4p4c": lambda: Queue(256, 4),
    "queue.bytes.256.8p8c": lambda: Queue(256, 8),
    "queue.bytes.256.16p16c": lambda: Queue(256, 16),
    "queue.bytes.256.32p32c": lambda: Queue(256, 32),
    "queue.struct": lambda: Queue(200, 1, produce_records, consume_records),
    "queue.rtt.hot": PingPong,
    "queue.rtt.blocking": PingPong,
    "start.fork.total": lambda: Start("fork"),
    "start.forkserver.total": lambda: Start("forkserver"),
    "start.spawn.total": lambda: Start("spawn"),
    "start.default.total.0": lambda: Start("fork"),
    "start.default.total.500": lambda: Start("fork", heap=500),
    "start.child_pss": lambda: ChildPss("forkserver"),
    "sync.lock.alone": LockAlone,
    "sync.lock.contended": LockContended,
    "pool.apply": lambda: Pool(apply),
    "pool.apply_async": lambda: Pool(apply_async),
    "pool.map_chunk1": lambda: Pool(map_chunk1),
    "pool.map_auto": lambda: Pool(map_auto),
    "actor.call": Calls,
    "actor.call.pipelined": Calls,
}


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError(f"no Pss of process {pid}")


def check(have, want):
    if have != want:
        raise RuntimeError(f"wrong result: {have!r} instead of {want!r}")


def answer(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Peer:
    """Holds the figure that is being measured from its first `run` to `end`."""

    def __init__(self):
        self.name = None
        self.figure = None

    def handle(self, request):
        words = request.split()
        if words == ["end"]:
            self.end()
            return "ended"
        verb, name, n = words
        if verb != "run":
            raise ValueError(f"unknown request {request!r}")
        if name != self.name:
            self.end()
            self.figure = FIGURES[name]()
            self.name = name
        return repr(float(self.figure.run(int(n))))

    def end(self):
        figure, self.name, self.figure = self.figure, None, None
        if figure is not None:
            figure.end()


def main():
    peer = Peer()
    answer("ok " + platform.python_version())
    for request in sys.stdin:
        try:
            answer("ok " + peer.handle(request))
        except Exception as error:
            answer("error " + " ".join(f"{type(error).__name__}: {error}".split()))
    peer.end()


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        # The folder made for this script; none when a person runs it by hand.
        for folder in sys.argv[1:]:
            shutil.rmtree(folder, ignore_errors=True)
