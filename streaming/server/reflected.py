"""What reflection tells: the protos, methods included."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool


class Symbols:
    """The default pool of descriptors, which also finds the file of a method.

    Protobuf's own looks up services and messages only, and a client that asks what one method
    takes (``grpcurl describe``) would be told that there is none.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()  # type: ignore[no-untyped-call]

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  (protobuf names it)
        """Return the file in which ``symbol`` stands.

        Raises:
            KeyError: nowhere.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
