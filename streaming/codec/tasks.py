"""The two tasks of a codec, by one name."""

from ossicle.streaming.codec.decode import DecodeState, DecodeTask
from ossicle.streaming.codec.encode import EncodeTask
from ossicle.streaming.codec.encodestate import EncodeState

__all__ = ["DecodeState", "DecodeTask", "EncodeState", "EncodeTask"]
