"""The command ``ossicle``. Every command loads what it needs when it runs, so that help is quick."""

from ossicle.streaming.cli.app import main

__all__ = ["main"]
