"""CPython's side of the figures: reads requests from standard input, answers on standard output (see python.rs)."""

# What makes each figure ready, by its name: `run(n)` of it measures once, `end()` gives back what it kept.
FIGURES = {}


def check(have, want):
    if have != want:
        raise RuntimeError(f"wrong result: {have!r} instead of {want!r}")


def serve(there, ends, work):
    """Works whenever it is told how much, until the other end is closed. A copy among `ends` would keep it open."""
    for end in ends:
        end.close()
    try:
        while True:
            there.send(work(there.recv()))
    except EOFError:
        pass
