"""Separation on request and speech enhancement: queries, tasks, guards and file commands.

Import the parts from their modules: :mod:`~ossicle.streaming.separation.tasks` for streams,
:mod:`~ossicle.streaming.separation.commands` for files.
"""
