"""Operators that each engine runs, as sets of ONNX names.

The TensorRT sets are the support matrices that its ONNX parser publishes: that of 10.1, which 10.2
and 10.3 did not change, and that of 10.15. Transforms of a signal (DFT, STFT, mel weights) and
random numbers are left out for every target: the first belong to the host, the second are inputs.
"""

from __future__ import annotations

_TENSORRT = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or Pad Pow PRelu
    QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    RNN RoiAlign Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh
    Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
TENSORRT_10_3 = frozenset(_TENSORRT.split())

TENSORRT_10_15 = TENSORRT_10_3 | frozenset(
    ["Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"]
)

# ONNX Runtime's CPU provider runs these besides; contrib operators are kept out of bundles.
_CPU_ONLY = """
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor ConvInteger DynamicQuantizeLinear
    MatMulInteger QLinearConv QLinearMatMul
"""
CPU = TENSORRT_10_3 | frozenset(_CPU_ONLY.split())
