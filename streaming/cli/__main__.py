"""``python -m ossicle.streaming.cli``."""

from ossicle.streaming.cli.app import main

main()
