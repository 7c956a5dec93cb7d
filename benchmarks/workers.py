"""Times calls that must not share a process: each has its own allocator and its own peak memory."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss this does not count the process that started it
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_memory() -> float:
    """Bytes that new allocations can get, or infinity where the system does not say."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("MemAvailable")).split()[1]) * 1024
    return float("inf")


def serve(pipe: Connection, build: Callable[..., Callable], arguments: tuple) -> None:
    """In the new process: build once, then run once for each message."""
    call = build(*arguments)
    pipe.send(peak_memory())
    while pipe.recv():
        start = time.perf_counter()
        result = call()
        pipe.send((time.perf_counter() - start, peak_memory(), result))


@dataclass
class Worker:
    """A process that repeats one call.

    Attributes:
        build: a function at the top of a module; what it returns is timed.
        arguments: of ``build``.
        seconds: of each repeat so far.
        idle: peak memory before the first repeat, bytes.
        peak: and now.
        result: of the latest repeat.
    """

    build: Callable[..., Callable]
    arguments: tuple
    seconds: list[float] = field(default_factory=list)
    idle: int = 0
    peak: int = 0
    result: np.ndarray | None = None

    def __post_init__(self):
        for name in [name for name in os.environ if name.startswith("MALLOC_")]:
            del os.environ[name]  # the allocator as it is by default
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        target = (theirs, self.build, self.arguments)
        self.process = context.Process(target=serve, args=target, daemon=True)
        self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Until it is built."""
        self.idle = self.pipe.recv()

    def run(self) -> None:
        """Repeat once more."""
        self.pipe.send(True)
        seconds, self.peak, self.result = self.pipe.recv()
        self.seconds.append(seconds)

    def close(self) -> None:
        """End the process."""
        self.pipe.send(False)
        self.process.join()

    @property
    def median(self) -> float:
        """Median seconds of the repeats."""
        return statistics.median(self.seconds)


def take_turns(workers: dict[str, Worker], repeats: int, most: float) -> None:
    """When all are built, run them in turn, so that a disturbance meets all of them.

    Args:
        workers: by name.
        repeats: of each, fewer of the slow ones.
        most: seconds after which one has been repeated enough.
    """
    for worker in workers.values():
        worker.wait()
    for _ in range(repeats):
        for worker in workers.values():
            if not worker.seconds or sum(worker.seconds) + worker.median < most:
                worker.run()
