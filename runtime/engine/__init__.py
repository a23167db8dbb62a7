"""The engine: many streams of many models, stepped as batches on one thread, each within budget."""

from ossicle.runtime.engine.admission import Capacity
from ossicle.runtime.engine.lease import Lease
from ossicle.runtime.engine.loop import Engine
from ossicle.runtime.engine.settings import EngineSettings

__all__ = ["Capacity", "Engine", "EngineSettings", "Lease"]
