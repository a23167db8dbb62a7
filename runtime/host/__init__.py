"""Host transforms: the operators of a program that run beside the graphs, in NumPy.

Fourier transforms, mel filters, framing and quantisation live here and not in the graphs: NumPy's
FFT is several times faster than a DFT exported as convolutions, and TensorRT has none at all.
"""

from ossicle.runtime.host import (
    features,
    framing,
    integermel,
    level,
    quantise,
    shape,
    spectrum,
)
from ossicle.runtime.host.base import HostOp, host_op, make_host_op

__all__ = [
    "HostOp", "features", "framing", "host_op", "integermel", "level", "make_host_op", "quantise",
    "shape", "spectrum",
]  # fmt: skip
