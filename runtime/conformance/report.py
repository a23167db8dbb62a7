"""What a verification found: one row a law."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One law, what was measured, and what is allowed. ``ok`` is None where it does not apply."""

    law: str
    ok: bool | None
    measured: str
    allowed: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of one bundle, in the order of the laws."""

    name: str
    version: str
    backend: str
    rows: tuple[Row, ...]

    @property
    def first_broken(self) -> Row | None:
        """The first law that does not hold, or None."""
        return next((row for row in self.rows if row.ok is False), None)

    @property
    def ok(self) -> bool:
        """Whether every law that applies holds."""
        return self.first_broken is None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "ok": self.ok}

    def table(self) -> Any:
        """Return the report as a rich table."""
        from rich.table import Table

        table = Table(title=f"{self.name} {self.version} on {self.backend}", title_justify="left")
        for column in ("law", "", "measured", "allowed"):
            table.add_column(column, overflow="fold")
        marks = {True: "[green]holds[/]", False: "[bold red]BROKEN[/]", None: "[dim]n/a[/]"}
        for row in self.rows:
            table.add_row(row.law, marks[row.ok], row.measured, row.allowed)
        return table
