"""hypercorn as a bridge: with the site's own settings, but for what would disturb the running one."""

from __future__ import annotations

import asyncio
import signal
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from .bridge_async import ARRIVES, Workers, wait_in_loop
from .bridge_gate import Gate
from .errors import Refused
from .web import Sockets

# Classes of workers that wait at the gate.
WORKERS = ("asyncio", "uvloop")


class Ending:
    """Whether a worker should end. hypercorn sets an event for all of them, and sends SIGTERM once the first one has ended."""

    def __init__(self, event: Any) -> None:
        """Takes hypercorn's event; `None`: the main process serves itself, and gets the signal."""
        self.event, self.told = event, False
        if event is not None:
            signal.signal(signal.SIGTERM, self.tell)

    def tell(self, *args: object) -> None:
        """Lets this one end."""
        self.told = True

    def is_set(self) -> bool:
        """Tells whether it should."""
        return self.told or (self.event is not None and self.event.is_set())


def run(gate: Gate, sockets: Sockets) -> int:
    """Runs hypercorn, and returns its exit code."""
    main: Any = import_module("hypercorn.__main__")
    server: Any = import_module("hypercorn.run")
    server.get_context = lambda _: Workers(gate, "hypercorn")
    worker: Any = import_module("hypercorn.asyncio.run")
    change_worker(gate, worker)
    end_gently(worker)
    started = main.run

    def changed(config: Any) -> Any:
        """Starts it, with settings that the site does not choose here."""
        check(config, sockets)
        config.bind = ["fd://%d" % number for number in sockets.numbers()]
        config.use_reloader, config.pid_path, config.max_requests = False, None, None
        headers = config.response_headers
        config.response_headers = lambda protocol: [*headers(protocol), (gate.header.lower().encode("ascii"), b"1")]
        return started(config)

    main.run = changed
    return main.main() or 0


def check(config: Any, sockets: Sockets) -> None:
    """Refuses settings that a bridge does not know."""
    if config.worker_class not in WORKERS:
        raise Refused("no_bridge", reason="workers of class `%s` are unknown" % config.worker_class)
    if config.ssl_enabled and (config.insecure_bind or config.quic_bind):
        raise Refused("no_bridge", reason="hypercorn has `insecure_bind` or `quic_bind`")
    sockets.compare(len(config.bind))


def change_worker(gate: Gate, module: Any) -> None:
    """Lets a worker wait between the start of the application and that of the server."""
    ending = Ending(None)

    class Lifespan(module.Lifespan):  # type: ignore[misc]
        """The start and the end of the application."""

        has_failed = False

        async def asgi_send(self, message: Any) -> None:
            """Notes whether the application failed to start."""
            self.has_failed |= message["type"] == "lifespan.startup.failed"
            await super().asgi_send(message)

        async def wait_for_startup(self) -> None:
            """Waits for the application, and then at the gate."""
            await super().wait_for_startup()
            if self.has_failed:
                raise RuntimeError("the application did not start")
            try:
                wait_in_loop(gate, self.config.workers or 1, lambda: not ending.is_set(), "Lifespan.handle_lifespan")
            except SystemExit:
                await self.wait_for_shutdown()
                raise

    def with_ending(worker: Any) -> Any:
        """Returns a function that runs a worker."""

        def run(config: Any, sockets: Any = None, shutdown_event: Any = None) -> None:
            """Runs it."""
            nonlocal ending
            ending = Ending(shutdown_event)
            worker(config, sockets, ending if shutdown_event else None)

        return run

    module.Lifespan = Lifespan
    module.asyncio_worker, module.uvloop_worker = map(with_ending, (module.asyncio_worker, module.uvloop_worker))


def end_gently(module: Any) -> None:
    """Lets a worker that should end stop accepting connections, and wait for the requests of accepted ones."""
    listening: list[Any] = []
    shut_down = module.raise_shutdown

    async def start_server(*args: Any, **options: Any) -> Any:
        """Accepts connections."""
        listening.append(await asyncio.start_server(*args, **options))
        return listening[-1]

    async def raise_shutdown(should_end: Any) -> None:
        """Waits until the worker should end, and ends it."""
        await should_end()
        for one in listening:
            one.close()
        await asyncio.sleep(ARRIVES)
        await shut_down(should_end)

    module.asyncio = SimpleNamespace(**dict(vars(asyncio), start_server=start_server))
    module.raise_shutdown = raise_shutdown
