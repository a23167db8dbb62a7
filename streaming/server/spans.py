"""OpenTelemetry spans where the API is installed; nothing where it is not. No gRPC plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def span(name: str, **attributes: str) -> Iterator[Callable[[str, str], None]]:
    """Run the body in a span; what is yielded adds an attribute to it."""
    try:
        from opentelemetry import trace
    except ImportError:
        yield lambda key, value: None
        return
    tracer = trace.get_tracer("ossicle")
    with tracer.start_as_current_span(name, record_exception=False) as active:
        for key, value in attributes.items():
            active.set_attribute(f"ossicle.{key}", value)
        yield lambda key, value: active.set_attribute(f"ossicle.{key}", value)
