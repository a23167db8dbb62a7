"""How a client reaches a service: over gRPC, or in its own process with the same messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from ossicle.runtime.errors import OssicleError
from ossicle.streaming import messages as m
from ossicle.streaming.failures import Failure

FINAL = (  # trying again would give the same answer
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
)

# the same stream would fail the same way again, or somebody else has it
FINAL_REASONS = ("SUPERSEDED", "IDLE", "STALLED", "RATE", "MODEL_FAILED", "FAILED", "UNEXPECTED")


class ServerError(OssicleError):
    """A server refused, failed, or cannot be reached."""

    def __init__(self, failure: Failure) -> None:
        hint = f" (try again in {failure.retry_after_ms} ms)" if failure.retry_after_ms else ""
        super().__init__(f"{failure.code}: {failure.message}{hint}")
        self.failure = failure

    @property
    def final(self) -> bool:
        """Whether trying again would give the same answer."""
        return self.failure.code in FINAL or self.failure.reason in FINAL_REASONS


class Transport(Protocol):
    """One way to a service."""

    def stream(self, requests: AsyncIterator[m.Request]) -> AsyncIterator[m.Response]:
        """Carry one connection of one stream.

        Raises:
            ServerError: refused or lost.
        """
        ...

    async def models(self, task: str) -> list[m.ModelInfo]:
        """Ask which models there are."""
        ...

    async def status(self) -> m.Status:
        """Ask how the server is."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and how to be let in."""

    target: str  # "host:port" or "unix:/path"
    token: str = ""
    tls: bool = False
    ca: bytes | None = None  # PEM; None: the system's
    certificate: bytes | None = None  # PEM of this client, for mTLS
    key: bytes | None = None


class GrpcTransport:
    """A channel to one server."""

    def __init__(self, address: Address) -> None:
        import grpc

        from ossicle.streaming.proto import ossicle_pb2_grpc

        options = [
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 1024),
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.max_send_message_length", 64 << 20),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._address = address
        if address.tls:
            credentials = grpc.ssl_channel_credentials(address.ca, address.key, address.certificate)
            self._channel = grpc.aio.secure_channel(address.target, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(address.target, options)
        self._stream: Any = self._channel.stream_stream("/ossicle.v1.Ossicle/Stream")  # of bytes
        self._stub: Any = ossicle_pb2_grpc.OssicleStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {address.token}"),) if address.token else None

    async def stream(self, requests: AsyncIterator[m.Request]) -> AsyncIterator[m.Response]:
        """Carry one connection."""
        import grpc

        from ossicle.streaming import wire

        call = self._stream(metadata=self._metadata)
        sending = asyncio.create_task(_send(call, requests), name="ossicle-send")
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                yield wire.response_from_bytes(answer)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        except asyncio.CancelledError:
            if call.cancelled() and not _cancelling():
                if sending.done() and not sending.cancelled() and sending.exception() is not None:
                    await sending  # what the requests came from has failed
                raise ServerError(Failure("CANCELLED", "", "the connection was cut")) from None
            raise
        finally:
            sending.cancel()
            call.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def models(self, task: str) -> list[m.ModelInfo]:
        """Ask which models there are."""
        from ossicle.streaming import wire
        from ossicle.streaming.proto import ossicle_pb2 as pb

        answer = await self._unary("ListModels", pb.ListModelsRequest(task=task))
        return [wire.model_from_pb(p) for p in answer.models]

    async def status(self) -> m.Status:
        """Ask how the server is."""
        from ossicle.streaming import wire
        from ossicle.streaming.proto import ossicle_pb2 as pb

        return wire.status_from_pb(await self._unary("GetStatus", pb.GetStatusRequest()))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _unary(self, method: str, request: Any) -> Any:
        import grpc

        try:
            call = getattr(self._stub, method)
            return await call(request, metadata=self._metadata, timeout=30.0)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None


async def _send(call: Any, requests: AsyncIterator[m.Request]) -> None:
    """Write every request, until there are no more or the call is over.

    A write that fails because the server has just ended the call is no news: the reader gets the
    server's own status. gRPC's public ``write`` would put an INTERNAL of its own in that status's
    place whenever the failed write is noticed first, and the reason would be lost.
    """
    import grpc

    from ossicle.streaming import wire

    writer = wire.RequestWriter()
    try:
        await call.wait_for_connection()
        async for request in requests:
            if call.done():
                return
            await call._cython_call.send_serialized_message(writer.write(request))
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError):
        return
    except asyncio.CancelledError:
        raise
    except Exception:
        call.cancel()
        raise


class LocalTransport:
    """The service's own core in this process, with models loaded as they are asked for."""

    def __init__(self) -> None:
        self._service: Any = None

    def _core(self) -> Any:
        if self._service is None:
            from ossicle.streaming.server.config import Settings
            from ossicle.streaming.server.service import Service
            from ossicle.streaming.session.inline import InlineEngine

            self._service = Service(InlineEngine(), Settings())
        return self._service

    async def stream(self, requests: AsyncIterator[m.Request]) -> AsyncIterator[m.Response]:
        """Carry one stream; what it is refused for is raised as it is."""
        from ossicle.streaming.server.caller import Caller

        async for response in self._core().stream(requests, Caller()):
            yield response

    async def models(self, task: str) -> list[m.ModelInfo]:
        """Return the installed bundles."""
        from ossicle.streaming.catalogue import installed

        return [info for info in installed() if not task or info.task == task]

    async def status(self) -> m.Status:
        """Return the status of this process's own service."""
        status: m.Status = self._core().status()
        return status

    async def close(self) -> None:
        """Nothing is held."""


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _error(error: Any) -> ServerError:
    from ossicle.streaming.wire.failure import from_trailer

    code = error.code().name
    message = error.details() or ""
    if code == "UNAVAILABLE" and "onnect" in message:
        message += "; " + _advice(message)
    return ServerError(from_trailer(code, message, error.trailing_metadata()))


def _advice(message: str) -> str:
    """What to look at when no connection was made, by what the transport said."""
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return (
            "the server's certificate is of no authority trusted here, or of another host; "
            "give its authority's PEM (--tls-ca)"
        )
    if any(word in message for word in ("Socket closed", "reset by peer", "SSL", "andshake")):
        return (
            "the server hung up: does it ask for TLS (--tls-ca, --tls) or for a client's "
            "certificate (OSSICLE_CLIENT_CERT and OSSICLE_CLIENT_KEY), or speak no TLS at all?"
        )
    return "is `ossicle serve` running there?"
