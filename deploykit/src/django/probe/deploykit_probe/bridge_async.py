"""What bridges with an event loop share: their workers, and how these wait."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import traceback
from multiprocessing.context import ForkContext, ForkProcess
from typing import Any, Callable

from .bridge_gate import Gate, exit_code

# Seconds that an accepted connection has to send its request when the server ends, which would close the connection at once.
ARRIVES = 0.1


class Workers(ForkContext):
    """Forks workers, where the server would start a Python that does not know the gate."""

    def __init__(self, gate: Gate, name: str) -> None:
        """Takes the server's name."""
        super().__init__()

        class Worker(ForkProcess):
            """A worker."""

            def start(self) -> None:
                """Starts it."""
                gate.before_fork(child.pid for child in multiprocessing.active_children() if child.pid)
                super().start()

            def run(self) -> None:
                """Runs it."""
                # As in a new Python.
                for number in signal.valid_signals():
                    if callable(signal.getsignal(number)):
                        signal.signal(number, signal.SIG_DFL)
                try:
                    super().run()
                except BaseException as error:
                    code = exit_code(error)
                    if not isinstance(error, SystemExit):
                        traceback.print_exc()
                    if code and not gate.is_free():
                        gate.fail("%s exited with code %d (see `%s`)" % (name, code, gate.log))
                        gate.await_end()
                    raise SystemExit(code) from error

        self.Process = Worker  # type: ignore[misc]


def wait_in_loop(gate: Gate, workers: int, lives: Callable[[], bool], own: str) -> None:
    """Waits at the gate, and blocks the loop meanwhile. `own` is the server's own coroutine beside this one."""
    loop = asyncio.get_running_loop()
    found: list[Any] = [task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    tasks = [one.__qualname__ for one in found if one.__qualname__ != own]
    # The gate uses Django's synchronous functions, which refuse to run while there is a running loop.
    asyncio._set_running_loop(None)
    try:
        gate.wait(workers, lives, tasks)
    finally:
        asyncio._set_running_loop(loop)
