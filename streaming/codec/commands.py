"""Audio files to ``.osc`` files and back, as plain functions."""

from ossicle.streaming.codec.decodefile import decode_file
from ossicle.streaming.codec.encodefile import encode_file
from ossicle.streaming.codec.summary import FileSummary, Progress

__all__ = ["FileSummary", "Progress", "decode_file", "encode_file"]
