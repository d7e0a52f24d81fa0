# Requests and answers.

import platform
import shutil
import sys


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
