"""Prints the rows as JSON: ``python -m ossicle.kernels.bench [--quick]``.

Started by ``ossicle bench kernels`` in a process of its own, since thread counts are read when
libraries load.
"""

from __future__ import annotations

import json
import os
import sys

from ossicle.kernels.bench import measure

if hasattr(os, "sched_setaffinity"):  # one core, so that threads of opponents share it too
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
print(json.dumps(measure(quick="--quick" in sys.argv)))
