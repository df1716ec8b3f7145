"""The process: uvicorn run from here, from an unverified URI to a drained exit."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn

from creditmodel_inference.app import create_app
from creditmodel_inference.bodies import InFlight
from creditmodel_inference.errors import Refusal
from creditmodel_inference.intake import Intake
from creditmodel_inference.keys import Keys, KeysInvalid
from creditmodel_inference.lifecycle import Lifecycle
from creditmodel_inference.memory import give_back_memory, keep_large_blocks_apart
from creditmodel_inference.meter import Meter
from creditmodel_inference.protocol import ConnectionBase, connection_class
from creditmodel_inference.scorer import Scorer, load
from creditmodel_inference.scoring_log import ScoringLog, prepare_writing
from creditmodel_inference.service import Service
from creditmodel_inference.settings import Settings
from creditmodel_inference.turns import take_short_slices
from creditmodel_inference.wire import Heads

__all__ = ["EXIT_REFUSED", "run"]

logger = logging.getLogger("creditmodel.serve")

EXIT_REFUSED = 3
REFUSAL_SHOWN_SECONDS = 1.0
"""How long /healthz/ready tells of a refused bundle before the process ends."""

SWEEP_SECONDS = 0.5
"""Between two looks at what connections take too long."""

BACKLOG = 2048
SWITCH_SECONDS = 0.0001
"""The scoring log's thread gives the interpreter back this soon when a request waits for it."""


def run(settings: Settings) -> int:
    """Serve until asked to stop. Returns the exit code: 0 drained, 2 no address or keys, 3 bundle refused."""
    try:
        keys = Keys(settings.api_keys_file) if settings.api_keys_file is not None else None
    except KeysInvalid as e:
        print(f"creditmodel-serve: {e}", file=sys.stderr)
        return 2
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as e:
        print(f"creditmodel-serve: cannot listen on {settings.host} port {settings.port}: {e}", file=sys.stderr)
        return 2
    keep_large_blocks_apart()
    sys.setswitchinterval(SWITCH_SECONDS)
    with closing(listener):
        server = _Server(settings, keys)
        host, port = listener.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        server.run([listener])
    refusal = server.lifecycle.refusal
    if refusal is None:
        return 0
    print(f"creditmodel-serve: {refusal.reason}: {refusal}", file=sys.stderr)
    return EXIT_REFUSED


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it: small answers leave at once.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server, with a model that loads beside it, limits on connections, and a drain before it stops."""

    def __init__(self, settings: Settings, keys: Keys | None) -> None:
        self.settings = settings
        self._keys = keys
        self.lifecycle = Lifecycle()
        self.meter = Meter()
        in_flight = InFlight(settings.limits)
        self.meter.in_flight = lambda: in_flight.requests + self._waiting()
        self.connection_type = connection_class(self.lifecycle, settings.limits, keys, access_log=settings.access_log)
        self._log: ScoringLog | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                create_app(self.lifecycle, self.meter, settings.limits, in_flight, keys),
                http=self.connection_type,
                ws="none",
                loop="uvloop",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=max(1, round(settings.limits.keep_alive_seconds)),
                timeout_graceful_shutdown=max(1, round(settings.limits.request_seconds) + 1),
            )
        )

    def _waiting(self) -> int:
        return self.lifecycle.service.waiting if self.lifecycle.service else 0

    # What uvicorn calls.

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._loading = asyncio.create_task(self._load())
        self._sweeping = asyncio.create_task(self._sweep_on())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """The first signal drains, a second one stops at once. Either way the exit code tells what happened."""
        if self.lifecycle.closing and self._draining is not None:
            self.should_exit = True
            self.force_exit = True
            return
        seconds = self.settings.drain_seconds if self.lifecycle.service is not None else 0.0
        logger.info("%s: draining for %g s", signal.Signals(sig).name, seconds)
        self.lifecycle.drain()
        # A signal handler runs between two instructions of the event loop's thread: the loop must be woken.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_drain, seconds)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for task in (self._loading, self._draining, self._sweeping):
            if task is not None:
                task.cancel()
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    # Loading.

    async def _load(self) -> None:
        begun = time.perf_counter()
        try:
            with self._work_directory() as directory:
                scorer = await _in_thread(self._load_scorer, Path(directory))
            self._begin_serving(scorer)
        except Refusal as refusal:
            await self._refuse(refusal)
            return
        except Exception as e:  # an unforeseen fault is a refusal too: half a server must not look alive
            logger.exception("the server cannot begin")
            await self._refuse(_unforeseen(e))
            return
        logger.info(
            "ready after %.2f s: %s, up to %d rows a call",
            time.perf_counter() - begun,
            scorer.identity.revision,
            scorer.blocks.capacity,
            extra={"fields": {"digest": scorer.identity.digest}},
        )

    def _work_directory(self) -> tempfile.TemporaryDirectory[str]:
        """For the fetched bundle, while it is read. Raises Refusal."""
        parent = self.settings.work_directory
        try:
            return tempfile.TemporaryDirectory(prefix="creditmodel-", dir=parent, ignore_cleanup_errors=True)
        except OSError as e:
            where = parent or "TMPDIR"
            raise Refusal("NotStored", f"the bundle cannot be stored in {where}: {e.strerror or e}") from e

    def _load_scorer(self, directory: Path) -> Scorer:
        settings = self.settings
        if settings.scoring_log is not None:
            prepare_writing()
        return load(settings.bundle, settings.digest, settings.revision, directory)

    def _begin_serving(self, scorer: Scorer) -> None:
        if self.settings.scoring_log is not None:
            self._log = ScoringLog(self.settings.scoring_log, scorer.contract, scorer.identity)
            self._log.start()
            self.meter.log = self._log.statistics
            self.meter.psi = self._log.window.psi
            self._flush_log_every(self._log, self.settings.scoring_log.seconds)
        self.meter.serve(scorer.contract, scorer.identity)
        intake = Intake(scorer.contract, self.settings.limits.rows)
        loop = asyncio.get_running_loop()
        self.connection_type.heads = Heads(scorer.identity)
        service = Service(scorer, intake, self.meter, self._log, loop.call_soon)
        take_short_slices()
        # What is alive now stays alive: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        give_back_memory()
        self.lifecycle.ready(service)

    async def _refuse(self, refusal: Refusal) -> None:
        self.lifecycle.refuse(refusal)
        logger.error("%s: %s", refusal.reason, refusal)
        if self.settings.termination_log is not None:
            try:
                self.settings.termination_log.write_text(f"{refusal.reason}: {refusal}\n")
            except OSError as e:
                logger.warning("the termination message cannot be written: %s", e)
        await asyncio.sleep(REFUSAL_SHOWN_SECONDS)
        self.should_exit = True

    # Running.

    def _flush_log_every(self, log: ScoringLog, seconds: float) -> None:
        loop = asyncio.get_running_loop()

        def flush() -> None:
            log.flush()
            loop.call_later(seconds, flush)

        loop.call_later(seconds, flush)

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if self._keys is not None:
                self._keys.refresh()
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, ConnectionBase):
                    connection.sweep(now)

    def _begin_drain(self, seconds: float) -> None:
        self._draining = asyncio.create_task(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        """Answer for a while longer: whoever balances load needs time to notice."""
        await asyncio.sleep(seconds)
        self.should_exit = True


async def _in_thread(function: Callable[[Path], Scorer], directory: Path) -> Scorer:
    """Call in a thread that the process does not wait for when it ends: a store that hangs must not delay a stop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Scorer] = loop.create_future()

    def settle(scorer: Scorer | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(cast("Scorer", scorer))

    def call() -> None:
        made, error = None, None
        try:
            made = function(directory)
        except Refusal as refusal:
            error = refusal
        except Exception as e:
            logger.exception("loading failed")
            error = _unforeseen(e)
        with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, made, error)

    threading.Thread(target=call, name="load", daemon=True).start()
    return await future


def _unforeseen(error: Exception) -> Refusal:
    return Refusal("Unloadable", f"{type(error).__name__}: {error}")
