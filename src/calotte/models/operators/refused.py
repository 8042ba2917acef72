"""Refused: why the operators without a handler are, on values that depend on the network's input.

Every operator of ONNX is either here or in `HANDLERS`, and a test holds that. Between constants some of these are
folded all the same (`folding.py`).
"""

from __future__ import annotations

__all__ = ["REFUSED"]

SMOOTH = (
    "is not piecewise linear: use Relu, LeakyRelu, HardSigmoid or a Clip in its place and train the network again"
)
NORM = (
    "divides by a norm or deviation of its own input, which is not piecewise linear: use BatchNormalization, which "
    "is affine once the network is trained"
)
PRODUCT = "multiplies values that both depend on the network's input, which is not piecewise linear"
ATTENTION = "is attention, whose weights depend on the network's input: not piecewise linear"
GATED = (
    "has gates that are products with sigmoid and tanh, which is not piecewise linear: unroll it, with Relu in place "
    "of the gates"
)
JUMP = (
    "is not continuous: steps in the middle of a network are not supported; at its end Sign, ArgMax, a comparison or "
    "Round behind a Sigmoid are"
)
WHOLE = "computes whole numbers or truth values, which no continuous function of the network's input can be"
POSITIONS = "gives positions or a number of entries that depend on the values: not piecewise linear"
SORTED = (
    "sorts, and its positions depend on the values: use ReduceMax, Max or MaxPool where the largest value is meant"
)
QUANTISED = (
    "rounds to a grid, which is not continuous: assess the network in floating point, before its activations are "
    "quantised (weights that are stored quantised are read)"
)
SAMPLED = "reads places that depend on the network's input: not piecewise linear"
FOURIER = "has coefficients (sines and cosines) that are no floats: write it as a MatMul with a constant"
RANDOM = "is random: calotte assesses networks that give the same answer every time"
TEXT = "works on text: calotte assesses networks of numbers"
IMAGE = "decodes files: give calotte the network behind it, and arrays of numbers"
WINDOW = "computes a window of sines and cosines: store the window as a constant in the model"
OPTIONAL = "works on values that may be absent: export the model with its values present"
LOSS = "is a loss, needed for training only: export the model without it"
LOGIC = "on values that depend on the network's input is understood at the end of a network only, behind a decision"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        [
            "Acos",
            "Acosh",
            "Asin",
            "Atanh",
            "Cos",
            "Cosh",
            "Gelu",
            "HardSwish",
            "Log",
            "Mish",
            "Pow",
            "Reciprocal",
            "Sin",
            "Sqrt",
            "Swish",
            "Tan",
        ],
        SMOOTH,
    ),
    **dict.fromkeys(["ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"], SMOOTH),
    **dict.fromkeys(
        [
            "GroupNormalization",
            "InstanceNormalization",
            "LRN",
            "LayerNormalization",
            "LpNormalization",
            "MeanVarianceNormalization",
            "RMSNormalization",
        ],
        NORM,
    ),
    **dict.fromkeys(["CumProd", "Det", "ReduceProd", "SwiGLU"], PRODUCT),
    **dict.fromkeys(
        ["Attention", "LinearAttention", "CausalConvWithState", "RotaryEmbedding", "TensorScatter"], ATTENTION
    ),
    **dict.fromkeys(["GRU", "LSTM", "RNN"], GATED),
    **dict.fromkeys(["Ceil", "Floor", "Hardmax", "Mod", "Round", "ThresholdedRelu"], JUMP),
    **dict.fromkeys(
        ["BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Equal", "OneHot"], WHOLE
    ),
    **dict.fromkeys(["ConstantOfShape", "MaxUnpool", "NonMaxSuppression", "NonZero", "Range", "Unique"], POSITIONS),
    "TopK": SORTED,
    **dict.fromkeys(["And", "Not", "Or", "Xor"], LOGIC),
    **dict.fromkeys(
        [
            "ConvInteger",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "QLinearConv",
            "QLinearMatMul",
            "QuantizeLinear",
        ],
        QUANTISED,
    ),
    **dict.fromkeys(["AffineGrid", "DeformConv", "MaxRoiPool", "RoiAlign"], SAMPLED),
    **dict.fromkeys(["DFT", "MelWeightMatrix", "STFT"], FOURIER),
    **dict.fromkeys(
        ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"], RANDOM
    ),
    **dict.fromkeys(["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"], TEXT),
    "ImageDecoder": IMAGE,
    **dict.fromkeys(["BlackmanWindow", "HammingWindow", "HannWindow"], WINDOW),
    **dict.fromkeys(["Optional", "OptionalGetElement", "OptionalHasElement"], OPTIONAL),
    **dict.fromkeys(["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"], LOSS),
    "Scan": "is not supported: unroll it",
    "SequenceMap": "is not supported: export the model without sequences",
}
"""Operator -> what is wrong with it, after its name."""
