"""The public errors: one small tree, so that a caller can catch as much or as little as it wants.

Every message says what came, what is allowed and what to do. Fields that a program may act on
are attributes.
"""

from __future__ import annotations


class OssicleError(Exception):
    """The root: ``except OssicleError`` catches what this package refuses on purpose."""


class AudioError(OssicleError, ValueError):
    """Samples, rates or channel counts that cannot be used."""


class BundleError(OssicleError):
    """A bundle that cannot be trusted or read."""


class ManifestError(BundleError, ValueError):
    """A manifest that breaks its schema or contradicts its graphs."""


class BackendError(OssicleError):
    """A backend that is missing, refuses a graph, or fails while it runs one."""


class BudgetError(OssicleError, ValueError):
    """A latency class or budget that the bundle cannot meet, however idle the machine."""

    def __init__(self, message: str, *, asked_ms: float = 0.0, needed_ms: float = 0.0) -> None:
        super().__init__(message)
        self.asked_ms = asked_ms
        self.needed_ms = needed_ms


class CapacityError(OssicleError):
    """No room now: admitting the stream would break a promise already given."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "budget",
        used: float = 0.0,
        total: float = 0.0,
        retry_after_ms: int = 1000,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.used = used
        self.total = total
        self.retry_after_ms = retry_after_ms


class SnapshotError(OssicleError):
    """A snapshot that is damaged, foreign, or larger than allowed."""


class PacketError(OssicleError, ValueError):
    """A codec packet or file that cannot be read."""


class QueryError(OssicleError, ValueError):
    """A separation query that names nothing known."""

    def __init__(self, message: str, *, nearest: tuple[tuple[str, float], ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


class CaptionError(OssicleError):
    """A lexicon, cue or sink that cannot be used."""


class DeviceError(OssicleError):
    """A sound card that is missing or fails."""


class WireError(OssicleError):
    """A message that breaks the protocol of the service."""

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason


class ExportError(OssicleError):
    """A model that cannot become a streaming bundle."""


class DownloadError(OssicleError):
    """A download that did not arrive whole, or not at all."""
