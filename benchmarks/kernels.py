"""How fast the CPU kernels are: each against its usual opponents, in one run, on one thread.

``python -m benchmarks.kernels [--json PLACE] [--quick]``

The same table as ``ossicle bench kernels``, kept with the machine and the commit it came from.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, describe, one_thread, save

one_thread()

from rich.console import Console  # noqa: E402 - after the thread counts are set
from rich.table import Table  # noqa: E402

from ossicle.kernels import paths  # noqa: E402
from ossicle.kernels.bench import measure  # noqa: E402
from ossicle.kernels.bench.timing import HEAD, cells  # noqa: E402


def run(json_path: str | Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """All rows; with a path they are written there as JSON, and as a table beside it."""
    plain = measure(quick)
    if json_path is not None:
        core = paths.core()
        place = save("kernels", {"isa": core.isa() if core else "none", "rows": plain}, json_path)
        place.with_suffix(".md").write_text(markdown(plain))
    return plain


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table with the machine under it."""
    machine = describe()
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    core = paths.core()
    return "\n".join(lines) + (
        f"\n\n{machine['cpu']}, instruction set {core.isa() if core else 'none'}, one thread, "
        f"least CPU time a call, load average {machine['load_average']}; "
        f"commit {machine['commit']}; `{machine['command']}`\n"
    )


def main() -> int:
    """Print the table; fail if any kernel is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default=str(RESULTS / "kernels.json"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = run(options.json, options.quick)
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=170).print(table)
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
