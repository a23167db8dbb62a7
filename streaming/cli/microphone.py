"""Live captions of a microphone, in the terminal or as JSON lines."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue, to_json_line
from ossicle.streaming.client.device import Microphone


def caption_microphone(
    remote: Any, device: int | str | None, rate_hz: int | None, seconds: float, model: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Caption until ``seconds`` have passed (0: until interrupted).

    Raises:
        DeviceError: no microphone, or no PortAudio.
    """
    microphone = Microphone(device, rate_hz)
    if as_json:
        asyncio.run(_listen(remote, microphone, seconds, model, _print_line))
        return
    from rich.live import Live

    from ossicle.streaming.captions.commands import LiveText

    text = LiveText()
    with Live(text.render(), refresh_per_second=10) as live:

        def take(cue: Cue) -> None:
            text.take(cue)
            live.update(text.render())

        asyncio.run(_listen(remote, microphone, seconds, model, take))


def _print_line(cue: Cue) -> None:
    sys.stdout.write(to_json_line(cue).decode() + "\n")
    sys.stdout.flush()


async def _listen(remote: Any, microphone: Any, seconds: float, model: str, take: Any) -> None:
    limit = time.monotonic() + seconds if seconds else None
    async with remote.connect() as client:
        spec = m.TaskSpec("caption", model=model)
        async for response in client.run(microphone, spec):
            if isinstance(response.body, Cue):
                take(response.body)
            if limit is not None and time.monotonic() > limit:
                return
