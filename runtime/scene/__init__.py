"""Sounds made from a seed, for demonstrations, tests, training and benchmarks.

Everything here is numpy only, needs no recording and gives the same samples for the same seed.
``alarms`` makes the warning sounds of a home and a street, ``speechlike`` babble with a voice's
structure, ``everyday`` the sounds of a household, and ``mix`` puts them in a room with known truth.
"""
