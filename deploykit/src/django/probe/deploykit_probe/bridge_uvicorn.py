"""uvicorn as a bridge: with the site's own settings, but for what would disturb the running one."""

from __future__ import annotations

import asyncio
import os
import threading
from importlib import import_module
from typing import Any

from .bridge_async import ARRIVES, Workers, wait_in_loop
from .bridge_gate import Gate
from .web import Sockets


def run(gate: Gate, sockets: Sockets) -> int:
    """Runs uvicorn, and returns its exit code."""
    sockets.compare(1)
    # `from uvicorn import main` would return a function.
    main: Any = import_module("uvicorn.main")
    processes: Any = import_module("uvicorn._subprocess")
    processes.spawn = Workers(gate, "uvicorn")
    started = main.run

    def changed(*args: Any, headers: Any = None, **settings: Any) -> None:
        """Starts it, with settings that the site does not choose here."""
        (settings["fd"],) = sockets.numbers()
        settings.update(uds=None, reload=False, limit_max_requests=None)
        started(*args, headers=[*(headers or ()), (gate.header, "1")], **settings)

    main.run = changed
    change_server(gate, main.Server)
    change_supervisor(gate)
    main.main()
    return 0


def change_server(gate: Gate, server: Any) -> None:
    """Lets a worker wait between the start of the application and that of the server."""
    own = {name: getattr(server, name) for name in ("run", "startup", "shutdown")}

    def run(self: Any, sockets: Any = None) -> None:
        """Runs the server."""
        if os.getpid() != gate.master:
            # The application is loaded later: these threads are the server's.
            gate.servers = threading.enumerate()
        own["run"](self, sockets)

    async def startup(self: Any, sockets: Any = None) -> None:
        """Starts the application, waits, and starts the server."""
        start = self.lifespan.startup

        async def started() -> None:
            """Starts the application, and waits."""
            await start()
            if self.lifespan.should_exit:
                return
            try:
                wait_in_loop(gate, self.config.workers, lambda: not self.should_exit, "LifespanOn.main")
            except SystemExit:
                await self.lifespan.shutdown()
                raise

        self.lifespan.startup = started
        await own["startup"](self, sockets)

    async def shutdown(self: Any, sockets: Any = None) -> None:
        """Stops accepting connections, waits for the requests of those that it has accepted, and ends."""
        for one in self.servers:
            one.close()
        await asyncio.sleep(ARRIVES)
        await own["shutdown"](self, sockets)

    server.run, server.startup, server.shutdown = run, startup, shutdown


def change_supervisor(gate: Gate) -> None:
    """Spares workers that are silent: a boot at a low priority may take longer."""
    process = getattr(import_module("uvicorn.supervisors.multiprocess"), "Process", None)
    if process is None:
        # Before 0.30, uvicorn does not ask workers whether they live.
        return
    ping = process.ping
    process.ping = lambda self, *args: not gate.is_free() or ping(self, *args)
