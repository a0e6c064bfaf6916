"""Floor 4: where the ranks of one machine meet: a store on the loopback address.

torch's own meeting places listen on every network interface of the machine. This one listens on 127.0.0.1, and has
nothing to negotiate, as there is one machine.
"""

from __future__ import annotations

import socket

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from typing_extensions import override

__all__ = ["BACKEND", "LOOPBACK", "register"]

BACKEND = "quickstudy-loopback"
LOOPBACK = "127.0.0.1"


class LoopbackRendezvous(RendezvousHandler):
    """A meeting of one machine with itself.

    Args:
        run_id: names the run.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id, self._closed = run_id, False
        listening = socket.create_server((LOOPBACK, 0))
        self._port = int(listening.getsockname()[1])
        # The store takes the socket over: bound here, as the store itself would listen everywhere.
        self._store: Store = TCPStore(
            LOOPBACK, self._port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )

    @override
    def get_backend(self) -> str:
        return BACKEND

    @override
    def next_rendezvous(self) -> RendezvousInfo:
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(LOOPBACK, self._port))

    @override
    def is_closed(self) -> bool:
        return self._closed

    @override
    def set_closed(self) -> None:
        self._closed = True

    @override
    def num_nodes_waiting(self) -> int:
        return 0

    @override
    def get_run_id(self) -> str:
        return self._run_id

    @override
    def shutdown(self) -> bool:
        self._closed = True
        return True


def register() -> None:
    """Make it known to torch's elastic launch under :data:`BACKEND`; once is enough, more often does no harm."""
    rendezvous_handler_registry.register(BACKEND, _create)


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    return LoopbackRendezvous(parameters.run_id)
