"""The command ``ossicle``; each command loads what it needs when it runs."""

from ossicle.streaming.cli.app import main

__all__ = ["main"]
