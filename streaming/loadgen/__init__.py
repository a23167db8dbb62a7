"""Many real-time streams against a server, on an open loop, so that a slow server cannot hide.

Every message has a time at which its last sample would have been captured. It is sent then, late or
not, and an answer's latency counts from the time its last needed sample was *due*, not from when it
was sent: a stall delays every message behind it and each of them shows (no coordinated omission).
"""

from ossicle.streaming.loadgen.heard import Heard, summary
from ossicle.streaming.loadgen.plan import Plan
from ossicle.streaming.loadgen.play import play, run_load
from ossicle.streaming.loadgen.player import Player

__all__ = ["Heard", "Plan", "Player", "play", "run_load", "summary"]
