"""The commands on files, done by a server: the same files come out as in this process."""

from ossicle.streaming.cli.remote.captions import caption_remote
from ossicle.streaming.cli.remote.codec import decode_remote, encode_remote
from ossicle.streaming.cli.remote.separation import enhance_remote, separate_remote

__all__ = [
    "caption_remote",
    "decode_remote",
    "encode_remote",
    "enhance_remote",
    "separate_remote",
]
