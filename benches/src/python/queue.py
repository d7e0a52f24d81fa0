# Group `queue`: messages from producers to consumers, and round trips between two processes.

import multiprocessing
import os
import time


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


def echo(there, back, processors):
    os.sched_setaffinity(0, processors)
    while True:
        back.put(there.get())


class PingPong:
    """Microseconds of a round trip over two queues, on one processor, or on all that this process may use."""

    def __init__(self, one=False):
        self.all = os.sched_getaffinity(0)
        self.processors = {min(self.all)} if one else self.all
        self.there, self.back = multiprocessing.Queue(), multiprocessing.Queue()
        args = (self.there, self.back, self.processors)
        self.process = multiprocessing.Process(target=echo, args=args, daemon=True)
        self.process.start()

    def run(self, n):
        # The queue's thread is started by the first put, and so it stays where that was.
        os.sched_setaffinity(0, self.processors)
        try:
            begin = time.perf_counter()
            for number in range(n):
                message = number.to_bytes(8, "little")
                self.there.put(message)
                check(self.back.get(), message)
            return (time.perf_counter() - begin) * 1e6 / n
        finally:
            os.sched_setaffinity(0, self.all)

    def end(self):
        self.process.terminate()
        self.process.join()


FIGURES |= {
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
    "queue.rtt.blocking.1core": lambda: PingPong(one=True),
}
