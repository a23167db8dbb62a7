"""The client: ``connect`` gives one that is used with ``with`` or ``async with``."""

from ossicle.streaming.client.aio import AsyncClient
from ossicle.streaming.client.connection import Connection, connect
from ossicle.streaming.client.link import ServerLost
from ossicle.streaming.client.sound import Sound
from ossicle.streaming.client.stream import Stream
from ossicle.streaming.client.sync import Client
from ossicle.streaming.client.transport import ServerError

__all__ = [
    "AsyncClient",
    "Client",
    "Connection",
    "ServerError",
    "ServerLost",
    "Sound",
    "Stream",
    "connect",
]
