"""Each gRPC method: check the token, translate, hand to the service, translate back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import grpc

from ossicle.streaming import messages as m
from ossicle.streaming import wire
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.failures import Closing, Denied, failure_of
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.security import Grant, TokenFile
from ossicle.streaming.server.service import Service
from ossicle.streaming.server.spans import span
from ossicle.streaming.session.session import Session
from ossicle.streaming.wire.cue import cue_to_pb
from ossicle.streaming.wire.failure import code, to_trailer

log = logging.getLogger("ossicle.server")
SERVICE = "ossicle.v1.Ossicle"


class Servicer:
    """The five methods of ``ossicle.v1.Ossicle``."""

    def __init__(self, service: Service, tokens: TokenFile) -> None:
        self._service, self._tokens = service, tokens

    async def Stream(self, requests: Any, context: Any) -> None:  # noqa: N802  (the proto names it)
        """Carry one live stream; requests and answers are bytes here, see ``handlers``."""
        handler = asyncio.current_task()
        assert handler is not None
        hung_up = False

        def hangup() -> None:
            nonlocal hung_up
            hung_up = True
            handler.cancel()

        try:
            caller = self._caller(context, "Stream")
            caller.hangup = hangup
            with span("ossicle.stream", client=caller.grant.name, peer=caller.peer) as note:
                answers = self._service.stream(_Requests(context), caller)
                try:
                    await self._write(answers, caller, context, note)
                finally:
                    await answers.aclose()  # type: ignore[attr-defined]
        except asyncio.CancelledError:
            if not hung_up:
                raise
            handler.uncancel()
            with suppress(asyncio.CancelledError):
                error = Closing("the client took no answers for too long", reason="STALLED")
                await _abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, error)

    async def _write(
        self, answers: AsyncIterator[m.Response], caller: Caller, context: Any, note: Any
    ) -> None:
        writer = wire.ResponseWriter()
        session: Session | None = None
        async for response in answers:
            data = writer.write(response)
            if session is None:
                session = caller.session
                assert session is not None
                note("session", session.name)
            session.bytes_out += len(data)
            session.messages_out += 1
            await context.write(data)

    async def Recognize(self, request: Any, context: Any) -> Any:  # noqa: N802  (the proto names it)
        """Caption one file."""
        try:
            caller = self._caller(context, "Recognize")
            config = wire.config_from_pb(request.config)
            if not config.tasks:
                options = {"finals_only": True, "no_heartbeat": True}
                config = _with_tasks(config, (m.TaskSpec("caption", options=options),))
            answers = await self._service.process(config, request.audio, (), caller)
        except Exception as error:
            await _abort(context, error)
        ended = next(r.body for r in answers if type(r.body) is m.Ended)
        return pb.RecognizeResponse(
            cues=_cues(answers),
            samples=ended.samples,
            totals=wire.ended_to_pb(ended),
        )

    async def Process(self, request: Any, context: Any) -> Any:  # noqa: N802  (the proto names it)
        """Run any tasks on one file."""
        try:
            caller = self._caller(context, "Process")
            config = wire.config_from_pb(request.config)
            packets = wire.packets_from_pb(request.packets)
            answers = await self._service.process(config, request.audio, packets, caller)
        except Exception as error:
            await _abort(context, error)
        return _gather(answers)

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802  (the proto names it)
        """Say which models there are."""
        try:
            caller = self._caller(context, "ListModels")
        except Denied as error:
            await _abort(context, error)
        found = self._service.list_models(request.task, caller)
        return pb.ListModelsResponse(models=[wire.model_to_pb(info) for info in found])

    async def GetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802  (the proto names it)
        """Say how the server is."""
        try:
            self._caller(context, "GetStatus")
        except Denied as error:
            await _abort(context, error)
        return wire.status_to_pb(self._service.status())

    def _caller(self, context: Any, method: str) -> Caller:
        """Return who calls.

        Raises:
            Denied: they may not.
        """
        metadata = dict(context.invocation_metadata() or ())
        grant = self._tokens.grant(metadata.get("authorization"))
        if not grant.allows_method(method):
            raise Denied(f"the token does not allow {method}", known=True)
        peer = str(context.peer())
        return Caller(grant, self._limit_key(grant, peer), peer)

    def _limit_key(self, grant: Grant, peer: str) -> str:
        """Return what limits are counted by: the token's name, else the address."""
        return peer.rpartition(":")[0] if self._tokens.open else grant.name


class _Requests:
    """The requests of one call as they come."""

    def __init__(self, context: Any) -> None:
        self._read = context.read

    def __aiter__(self) -> AsyncIterator[m.Request]:
        return self

    async def __anext__(self) -> m.Request:
        data = await self._read()
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return wire.request_from_bytes(data)


def handlers(servicer: Servicer) -> dict[str, Any]:
    """Return the service's methods for gRPC.

    As the generated ``add_OssicleServicer_to_server`` has them, but for ``Stream``, whose messages
    pass as bytes: they are parsed and filled in the cheapest way, see :mod:`~..wire.forms`.
    """
    return {
        "Stream": grpc.stream_stream_rpc_method_handler(servicer.Stream),
        "Recognize": _unary(servicer.Recognize, pb.RecognizeRequest, pb.RecognizeResponse),
        "Process": _unary(servicer.Process, pb.ProcessRequest, pb.ProcessResponse),
        "ListModels": _unary(servicer.ListModels, pb.ListModelsRequest, pb.ListModelsResponse),
        "GetStatus": _unary(servicer.GetStatus, pb.GetStatusRequest, pb.GetStatusResponse),
    }


def _unary(method: Any, request: Any, response: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _with_tasks(config: m.Config, tasks: tuple[m.TaskSpec, ...]) -> m.Config:
    return replace(config, tasks=tasks)


def _cues(answers: list[m.Response]) -> list[Any]:
    return [cue_to_pb(r.body) for r in answers if isinstance(r.body, Cue)]


def _gather(answers: list[m.Response]) -> Any:
    out = pb.ProcessResponse(cues=_cues(answers))
    tracks: dict[tuple[str, str], list[m.AudioOut]] = {}
    for response in answers:
        match response.body:
            case m.AudioOut() as audio:
                tracks.setdefault((response.task, audio.track), []).append(audio)
            case m.PacketsOut() as packets:
                out.packets.append(wire.packets_out_to_pb(packets))
            case m.Gap() as gap:
                out.gaps.append(wire.gap_to_pb(gap))
            case m.Started() as started:
                out.started.CopyFrom(wire.started_to_pb(started))
            case m.Ended() as ended:
                out.totals.CopyFrom(wire.ended_to_pb(ended))
    for (task, track), parts in tracks.items():
        out.tracks.add(
            task=task,
            track=track,
            data=b"".join(p.data for p in parts),
            samples=sum(p.samples for p in parts),
            channels=parts[0].channels,
        )
    return out


async def _abort(context: Any, error: Exception) -> NoReturn:
    """End the call with the status of ``error``."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    failure = failure_of(error)
    if failure.reason == "UNEXPECTED":
        log.error("call failed", exc_info=error)
    await context.abort(code(failure), failure.message, to_trailer(failure))
    raise AssertionError("abort returns nothing")
