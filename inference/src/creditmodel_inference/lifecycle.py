"""What the server is doing: starting, ready, draining, or refusing its bundle."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from creditmodel_inference.errors import NotReady, Refusal

if TYPE_CHECKING:
    from creditmodel_inference.service import Service

__all__ = ["Lifecycle", "Phase"]


class Phase(StrEnum):
    """Phases in their order; REFUSED and DRAINING are final."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    REFUSED = "refused"


class Lifecycle:
    """The server's phase, and its service once there is one."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.reason = "the bundle is being fetched and verified"
        self.service: Service | None = None
        self.refusal: Refusal | None = None

    def ready(self, service: Service) -> None:
        """The golden rows are reproduced. A drain that began earlier goes on."""
        self.service = service
        if self.phase is Phase.STARTING:
            self.phase, self.reason = Phase.READY, "the golden rows are reproduced"

    def drain(self) -> None:
        """Say not-ready to whoever balances load, and go on answering."""
        if self.phase is not Phase.REFUSED:
            self.phase, self.reason = Phase.DRAINING, "the server was asked to stop"

    def refuse(self, refusal: Refusal) -> None:
        """This bundle will not be served."""
        self.phase, self.reason, self.refusal = Phase.REFUSED, f"{refusal.reason}: {refusal}", refusal

    @property
    def closing(self) -> bool:
        """Whether clients should be moved to another connection, and so to another replica."""
        return self.phase is not Phase.READY

    def require_service(self) -> Service:
        """The service. Raises NotReady, in which case another replica should be asked."""
        if self.service is None:
            raise NotReady(f"The server is {self.phase}: {self.reason}.", headers=[("retry-after", "1")])
        return self.service
