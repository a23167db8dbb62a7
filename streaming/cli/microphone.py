"""Live captions of a microphone, in the terminal or as JSON lines."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue, to_json_line
from ossicle.streaming.client.device import Microphone


def caption_microphone(
    remote: Any, device: int | str | None, rate_hz: int | None, seconds: float, model: str,
    as_json: bool, options: Mapping[str, Any], web: int | None = None,
) -> None:  # fmt: skip
    """Caption until ``seconds`` have passed (0: until interrupted), with a task's ``options``.

    In the terminal, or as lines of JSON; in browsers too if a port ``web`` is named.

    Raises:
        DeviceError: no microphone, or no PortAudio.
    """
    from ossicle.streaming.captions.liveview import watching
    from ossicle.streaming.captions.webview import browsing, together

    microphone = Microphone(device, rate_hz)
    spec = m.TaskSpec("caption", model=model, options=options)
    with watching(not as_json) as shown, browsing(web) as browsed:
        take = together(shown or _print_line, browsed)
        assert take is not None
        asyncio.run(_listen(remote, microphone, seconds, spec, take))


def _print_line(cue: Cue) -> None:
    sys.stdout.write(to_json_line(cue).decode() + "\n")
    sys.stdout.flush()


async def _listen(
    remote: Any, microphone: Any, seconds: float, spec: m.TaskSpec, take: Callable[[Cue], None]
) -> None:
    limit = time.monotonic() + seconds if seconds else None
    async with remote.connect() as client:
        async for response in client.run(microphone, spec):
            if isinstance(response.body, Cue):
                take(response.body)
            if limit is not None and time.monotonic() > limit:
                return
