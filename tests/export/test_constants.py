import numpy as np
import pytest

pytest.importorskip("onnx")

from ossicle.export.graph import StepWriter


def test_a_constant_of_its_own_is_shared_with_nobody() -> None:
    """ONNX Runtime rewrites the eight-bit constants of a weight, and may do so only once."""
    writer = StepWriter("g")
    zero = np.zeros(3, np.int8)
    own = [writer.weight(zero, own=True) for _ in range(2)]
    shared = [writer.weight(zero) for _ in range(2)]
    assert len({*own, *shared}) == 3
    assert shared[0] == shared[1]
