"""Backend ``auto``: each graph where it runs best, native where it can, else ONNX Runtime.

Nothing is hidden: what was chosen, and why a graph is not native, stands in ``chosen`` and
``reasons``; commands and status pages show it.
"""

from __future__ import annotations

from ossicle.runtime.backend.base import LoadedGraph
from ossicle.runtime.backend.native import NativeBackend
from ossicle.runtime.backend.ort import OrtBackend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError

LARGE = 1 << 17  # floats between the steps of one stream: half a megabyte, of a cache of two


class AutoBackend:
    """Asks the native executor first.

    A graph whose intermediate values outgrow the second cache is a picture network rather than a
    step of a stream: ONNX Runtime's tiling is then faster (YAMNet: 1.4 ms there, 1.9 ms natively).
    """

    def __init__(self, threads: int = 1) -> None:
        self.name = "auto"  # once graphs are loaded: "native", "ort" or "native+ort"
        self.chosen: dict[str, str] = {}  # backend by graph
        self.reasons: dict[str, str] = {}  # why a graph is not native
        self._native, self._ort = NativeBackend(), OrtBackend(threads=threads)

    def load(self, bundle: Bundle, graph: str) -> LoadedGraph:
        """Load one graph where it runs best.

        Raises:
            BackendError: neither can run it.
        """
        loaded: LoadedGraph
        try:
            native = self._native.load(bundle, graph)
            if native.scratch > LARGE:
                raise BackendError(f"{native.scratch} floats between its steps; {LARGE} pay")
            loaded = native
            self.chosen[graph] = self._native.name
        except BackendError as error:
            self.reasons[graph] = str(error)
            loaded = self._ort.load(bundle, graph)
            self.chosen[graph] = self._ort.name
        self.name = "+".join(sorted(set(self.chosen.values())))
        return loaded
