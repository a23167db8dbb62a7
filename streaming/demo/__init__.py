"""``ossicle demo``: a real server, a real client, a scene in real time, and what came of it."""

from ossicle.streaming.demo.run import run_demo

__all__ = ["run_demo"]
