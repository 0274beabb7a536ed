"""ONNX operators as calls of PyTorch, one function each: what a user's module would call, with static shapes filled in.

Every function gets the builder and the node and returns an fx node (or a list of them). Meanings are those of ONNX opset 22
(https://onnx.ai/onnx/operators/). The list of `@op` names is what the plugin says it supports.
"""

import math
import operator

import torch
import torch.nn.functional as F

from protocol import Failure

OPS = {}


def op(*names):
    def register(function):
        for name in names:
            OPS[name] = function
        return function

    return register


def unsupported(node, reason):
    return Failure("unsupported", f"{node.op} '{node.name}': {reason}", "use another backend for this model")


# Elementwise.

UNARY = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan,
    "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
    "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan,
    "Tanh": torch.tanh,
}


@op("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish", "IsNaN")
@op("Log", "Mish", "Neg", "Not", "Reciprocal", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh")
def unary(b, node):
    return b.call(UNARY[node.op], b.tensor(node.inputs[0]))


BINARY = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow, "And": torch.logical_and, "Or": torch.logical_or,
    "Xor": torch.logical_xor, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
}


@op("Add", "Sub", "Mul", "Pow", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def binary(b, node):
    left, right = b.operands(node)
    # Functions take a number on the right only; Python's own operators take it on either side.
    swapped = {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Pow": operator.pow}
    if isinstance(left, (int, float)):
        return b.call(swapped[node.op], left, right) if node.op in swapped else b.call(BINARY[node.op], b.tensor(node.inputs[0]), right)
    return b.call(BINARY[node.op], left, right)


@op("Div")
def div(b, node):
    left, right = b.operands(node)
    if b.is_float(node.inputs[0]):
        return b.call(operator.truediv, left, right)
    return b.call(torch.div, b.tensor(node.inputs[0]), b.tensor(node.inputs[1]), rounding_mode="trunc")


@op("Mod")
def mod(b, node):
    return b.call(torch.fmod if node.attrs["fmod"] else torch.remainder, *b.tensors(node))


@op("Max", "Min", "Sum", "Mean")
def variadic(b, node):
    combine = {"Max": torch.maximum, "Min": torch.minimum}.get(node.op, torch.add)
    values = b.tensors(node)
    result = values[0]
    for value in values[1:]:
        result = b.call(combine, result, value)
    return b.call(torch.div, result, len(values)) if node.op == "Mean" else result


@op("Relu")
def relu(b, node):
    # As torchvision's modules have it: in place where nobody else reads the value.
    return b.call(F.relu, b.tensor(node.inputs[0]), inplace=b.may_overwrite(node.inputs[0]))


@op("Clip")
def clip(b, node):
    low, high = (b.number(node, index) if node.has(index) else None for index in (1, 2))
    return b.call(torch.clamp, b.tensor(node.inputs[0]), min=low, max=high)


@op("LeakyRelu", "Elu", "Celu")
def with_alpha(b, node):
    function = {"LeakyRelu": F.leaky_relu, "Elu": F.elu, "Celu": F.celu}[node.op]
    return b.call(function, b.tensor(node.inputs[0]), node.attrs["alpha"])


@op("Gelu")
def gelu(b, node):
    return b.call(F.gelu, b.tensor(node.inputs[0]), approximate=node.attrs["approximate"])


@op("Swish")
def swish(b, node):
    x, alpha = b.tensor(node.inputs[0]), node.attrs["alpha"]
    if alpha == 1:
        return b.call(F.silu, x)
    return b.call(torch.mul, x, b.call(torch.sigmoid, b.call(torch.mul, x, alpha)))


@op("HardSigmoid")
def hard_sigmoid(b, node):
    x, alpha, beta = b.tensor(node.inputs[0]), node.attrs["alpha"], node.attrs["beta"]
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return b.call(F.hardsigmoid, x)
    return b.call(torch.clamp, b.call(torch.add, b.call(torch.mul, x, alpha), beta), min=0, max=1)


@op("PRelu")
def prelu(b, node):
    x, slope = b.tensors(node)
    return b.call(torch.where, b.call(torch.ge, x, 0), x, b.call(torch.mul, x, slope))


@op("Where")
def where(b, node):
    return b.call(torch.where, *b.tensors(node))


@op("Cast")
def cast(b, node):
    return b.call_method("to", b.tensor(node.inputs[0]), b.torch_dtype(node.outputs[0].dtype, node))


@op("Identity", "Dropout")
def identity(b, node):
    return b.tensor(node.inputs[0])


# Convolutions, pools and products.


def _windows(b, node, x, fill=0.0):
    """Padding as PyTorch takes it, one number per axis; where begin and end differ the input is padded first."""
    pads = node.attrs["pads"]
    rank = len(pads) // 2
    begin, end = pads[:rank], pads[rank:]
    if begin == end:
        return x, begin
    flat = [p for axis in reversed(range(rank)) for p in (begin[axis], end[axis])]
    return b.call(F.pad, x, flat, value=fill), [0] * rank


@op("Conv")
def conv(b, node):
    weight = b.tensor(node.inputs[1])
    bias = b.tensor(node.inputs[2]) if node.has(2) else None
    rank = len(node.attrs["kernel_shape"])
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    x, padding = _windows(b, node, b.tensor(node.inputs[0]))
    return b.call(function, x, weight, bias, node.attrs["strides"], padding, node.attrs["dilations"], node.attrs["group"])


@op("ConvTranspose")
def conv_transpose(b, node):
    a = node.attrs
    rank = len(a["kernel_shape"])
    begin, end = a["pads"][:rank], a["pads"][rank:]
    if begin != end:
        raise unsupported(node, "PyTorch pads both ends alike")
    function = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    bias = b.tensor(node.inputs[2]) if node.has(2) else None
    return b.call(function, b.tensor(node.inputs[0]), b.tensor(node.inputs[1]), bias, a["strides"], begin, a["output_padding"], a["group"], a["dilations"])


@op("MaxPool")
def max_pool(b, node):
    if len(node.outputs) > 1 and node.outputs[1].name:
        raise unsupported(node, "indices are counted in another way")
    a = node.attrs
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(a["kernel_shape"])]
    x, padding = _windows(b, node, b.tensor(node.inputs[0]), -math.inf)
    return b.call(function, x, a["kernel_shape"], a["strides"], padding, a["dilations"], ceil_mode=bool(a["ceil_mode"]))


@op("AveragePool")
def average_pool(b, node):
    a = node.attrs
    if any(dilation != 1 for dilation in a["dilations"]):
        raise unsupported(node, "PyTorch has no dilated average")
    rank = len(a["kernel_shape"])
    if a["pads"][:rank] != a["pads"][rank:] and not a["count_include_pad"]:
        raise unsupported(node, "PyTorch pads both ends alike")
    function = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[rank]
    x, padding = _windows(b, node, b.tensor(node.inputs[0]))
    return b.call(function, x, a["kernel_shape"], a["strides"], padding, ceil_mode=bool(a["ceil_mode"]), count_include_pad=bool(a["count_include_pad"]))


@op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b, node):
    kind = "avg" if node.op == "GlobalAveragePool" else "max"
    rank = len(b.dims(node.inputs[0])) - 2
    return b.call(getattr(F, f"adaptive_{kind}_pool{rank}d"), b.tensor(node.inputs[0]), (1,) * rank)


@op("Gemm")
def gemm(b, node):
    a = node.attrs
    plain = a["alpha"] == 1 and a["beta"] == 1 and not a["transA"]
    bias_fits = not node.has(2) or b.dims(node.inputs[2]) == b.dims(node.outputs[0].name)[1:]
    if plain and bias_fits and node.inputs[1] in b.constants:
        weight = b.linear_weight(node.inputs[1], transpose=not a["transB"])
        return b.call(F.linear, b.tensor(node.inputs[0]), weight, b.tensor(node.inputs[2]) if node.has(2) else None)
    left, right = b.tensor(node.inputs[0]), b.tensor(node.inputs[1])
    left = b.call_method("t", left) if a["transA"] else left
    right = b.call_method("t", right) if a["transB"] else right
    product = b.call(torch.matmul, left, right)
    product = product if a["alpha"] == 1 else b.call(torch.mul, product, a["alpha"])
    if not node.has(2):
        return product
    bias = b.tensor(node.inputs[2])
    return b.call(torch.add, product, bias if a["beta"] == 1 else b.call(torch.mul, bias, a["beta"]))


@op("MatMul")
def matmul(b, node):
    # By a constant matrix it is nn.Linear, with the bias that the next node adds (graph.py finds it).
    if node.inputs[1] in b.constants and len(b.dims(node.inputs[1])) == 2 and len(b.dims(node.inputs[0])) >= 2:
        bias = b.tensor(node.bias) if node.bias else None
        return b.call(F.linear, b.tensor(node.inputs[0]), b.linear_weight(node.inputs[1], transpose=True), bias)
    return b.call(torch.matmul, *b.tensors(node))


@op("FusedAttention")
def attention(b, node):
    query, key, value = (b.tensor(name) for name in node.inputs[:3])
    if node.attrs["transposedK"]:
        key = b.call_method("transpose", key, -2, -1)
    mask = b.tensor(node.inputs[3]) if node.has(3) else None
    cap = node.attrs["softcap"]
    sharing = b.dims(node.inputs[0])[1] // b.dims(node.inputs[2])[1]
    # From 2.5 on, a query that sees no key gives zeros, and heads of queries may share keys and values.
    if cap == 0 and TORCH >= ((2, 5) if node.attrs["zeroEmptyRows"] or sharing > 1 else (2, 1)):
        grouped = {"enable_gqa": True} if sharing > 1 else {}
        return b.call(F.scaled_dot_product_attention, query, key, value, attn_mask=mask, scale=node.attrs["scale"], **grouped)
    if sharing > 1:
        key, value = (b.call(torch.repeat_interleave, operand, sharing, 1) for operand in (key, value))
    scores = b.call(torch.mul, b.call(torch.matmul, query, b.call_method("transpose", key, -2, -1)), node.attrs["scale"])
    scores = scores if cap == 0 else b.call(torch.mul, b.call(torch.tanh, b.call(torch.div, scores, cap)), cap)
    scores = scores if mask is None else b.call(torch.add, scores, mask)
    weights = b.call(F.softmax, scores, -1)
    weights = b.call(torch.nan_to_num, weights, 0.0) if node.attrs["zeroEmptyRows"] else weights
    return b.call(torch.matmul, weights, value)


TORCH = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


# Normalizations and reductions.


@op("BatchNormalization")
def batch_norm(b, node):
    x, scale, bias, mean, variance = b.tensors(node)
    return b.call(F.batch_norm, x, mean, variance, scale, bias, False, 0.0, node.attrs["epsilon"])


@op("InstanceNormalization")
def instance_norm(b, node):
    x, scale, bias = b.tensors(node)
    return b.call(F.instance_norm, x, None, None, scale, bias, True, 0.0, node.attrs["epsilon"])


@op("GroupNormalization")
def group_norm(b, node):
    x, scale, bias = b.tensors(node)
    return b.call(F.group_norm, x, node.attrs["num_groups"], scale, bias, node.attrs["epsilon"])


@op("LayerNormalization")
def layer_norm(b, node):
    if any(output.name for output in node.outputs[1:]):
        raise unsupported(node, "mean and deviation are no outputs of PyTorch's")
    shape = b.dims(node.inputs[0])[node.attrs["axis"] :]
    bias = b.tensor(node.inputs[2]) if node.has(2) else None
    return b.call(F.layer_norm, b.tensor(node.inputs[0]), shape, b.tensor(node.inputs[1]), bias, node.attrs["epsilon"])


@op("RMSNormalization")
def rms_norm(b, node):
    dims = b.dims(node.inputs[0])
    axis = node.attrs["axis"] % len(dims)
    x = b.tensor(node.inputs[0])
    mean = b.call(torch.mean, b.call(torch.mul, x, x), list(range(axis, len(dims))), keepdim=True)
    return b.call(torch.mul, b.call(torch.mul, x, b.call(torch.rsqrt, b.call(torch.add, mean, node.attrs["epsilon"]))), b.tensor(node.inputs[1]))


@op("Softmax", "LogSoftmax")
def softmax(b, node):
    return b.call(F.softmax if node.op == "Softmax" else F.log_softmax, b.tensor(node.inputs[0]), node.attrs["axis"])


@op("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
def reduce(b, node):
    rank = len(b.dims(node.inputs[0]))
    axes = [axis % rank for axis in b.integers(node, 1)] if node.has(1) else []
    x, keep = b.tensor(node.inputs[0]), bool(node.attrs["keepdims"])
    if not axes and node.attrs["noop_with_empty_axes"]:
        return x
    axes = axes or list(range(rank))
    if node.op == "ReduceL1":
        x = b.call(torch.abs, x)
    elif node.op in ("ReduceL2", "ReduceSumSquare"):
        x = b.call(torch.mul, x, x)
    functions = {"ReduceMean": torch.mean, "ReduceMax": torch.amax, "ReduceMin": torch.amin, "ReduceLogSumExp": torch.logsumexp}
    result = b.call(functions.get(node.op, torch.sum), x, axes, keepdim=keep)
    return b.call(torch.sqrt, result) if node.op == "ReduceL2" else result


@op("ArgMax", "ArgMin")
def arg_extreme(b, node):
    if node.attrs["select_last_index"]:
        raise unsupported(node, "PyTorch does not say which of equal values it takes")
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return b.call(function, b.tensor(node.inputs[0]), node.attrs["axis"], keepdim=bool(node.attrs["keepdims"]))


# Movement. Shapes are static, so that views need no shape tensors.


@op("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(b, node):
    return b.call_method("reshape", b.tensor(node.inputs[0]), node.outputs[0].dims)


@op("Expand")
def expand(b, node):
    return b.call_method("expand", b.tensor(node.inputs[0]), node.outputs[0].dims)


@op("Transpose")
def transpose(b, node):
    return b.call_method("permute", b.tensor(node.inputs[0]), node.attrs["perm"])


@op("Concat")
def concat(b, node):
    return b.call(torch.cat, b.tensors(node), node.attrs["axis"])


@op("Split")
def split(b, node):
    axis = node.attrs["axis"]
    sizes = [output.dims[axis] for output in node.outputs]
    parts = b.call(torch.split, b.tensor(node.inputs[0]), sizes, axis)
    return [b.call(operator.getitem, parts, index) for index in range(len(sizes))]


@op("Slice")
def slice_(b, node):
    dims = b.dims(node.inputs[0])
    starts, ends = b.integers(node, 1), b.integers(node, 2)
    axes = b.integers(node, 3) if node.has(3) else list(range(len(starts)))
    steps = b.integers(node, 4) if node.has(4) else [1] * len(starts)
    index = [slice(None)] * len(dims)
    x = b.tensor(node.inputs[0])
    for start, end, axis, step in zip(starts, ends, axes, steps):
        axis %= len(dims)
        # ONNX clamps as Python does, but for an end below the start of a backward slice.
        begin, stop, step = slice(start, None if step < 0 and end < -dims[axis] else end, step).indices(dims[axis])
        if step > 0:
            index[axis] = slice(begin, stop, step)
        else:
            x = b.call(torch.index_select, x, axis, b.integers_on_device(list(range(begin, stop, step))))
    return b.call(operator.getitem, x, tuple(index))


@op("Gather")
def gather(b, node):
    data, indices = node.inputs[:2]
    axis = node.attrs["axis"] % len(b.dims(data))
    if axis == 0 and data in b.constants and len(b.dims(data)) == 2 and indices not in b.constants:
        return b.call(F.embedding, b.tensor(indices), b.tensor(data))
    if indices in b.constants and b.dims(indices) == []:
        return b.call(torch.select, b.tensor(data), axis, int(b.constants[indices].item()))
    return b.call(operator.getitem, b.tensor(data), (slice(None),) * axis + (b.tensor(indices),))


@op("GatherElements")
def gather_elements(b, node):
    data, indices = b.tensors(node)
    size = b.dims(node.inputs[0])[node.attrs["axis"]]
    return b.call(torch.gather, data, node.attrs["axis"], b.call(torch.remainder, indices, size))


@op("Pad")
def pad(b, node):
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    dims, amounts = b.dims(node.inputs[0]), b.integers(node, 1)
    axes = [axis % len(dims) for axis in b.integers(node, 3)] if node.has(3) else list(range(len(dims)))
    if node.attrs["mode"] != "constant" and any(axis < 2 for axis, begin, end in zip(axes, amounts, amounts[len(axes) :]) if begin or end):
        raise unsupported(node, "PyTorch reflects spatial axes only")
    by_axis = dict(zip(axes, zip(amounts, amounts[len(axes) :])))
    first = 2 if node.attrs["mode"] != "constant" else 0
    flat = [amount for axis in reversed(range(first, len(dims))) for amount in by_axis.get(axis, (0, 0))]
    value = b.number(node, 2) if node.has(2) and node.attrs["mode"] == "constant" else 0
    return b.call(F.pad, b.tensor(node.inputs[0]), flat, mode=modes[node.attrs["mode"]], value=value)


@op("Tile")
def tile(b, node):
    return b.call_method("repeat", b.tensor(node.inputs[0]), b.integers(node, 1))


@op("Resize")
def resize(b, node):
    a = node.attrs
    coordinates, mode = a["coordinate_transformation_mode"], a["mode"]
    dims, out = b.dims(node.inputs[0]), node.outputs[0].dims
    if len(dims) != 4 or dims[:2] != out[:2] or a["antialias"] or a["exclude_outside"]:
        raise unsupported(node, "only plain resizing of pictures [N,C,H,W]")
    if mode == "nearest" and coordinates == "asymmetric" and a["nearest_mode"] == "floor":
        return b.call(F.interpolate, b.tensor(node.inputs[0]), size=out[2:], mode="nearest")
    if mode in ("linear", "cubic") and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners") and a["cubic_coeff_a"] == -0.75:
        kind = {"linear": "bilinear", "cubic": "bicubic"}[mode]
        return b.call(F.interpolate, b.tensor(node.inputs[0]), size=out[2:], mode=kind, align_corners=coordinates == "align_corners")
    raise unsupported(node, f"{mode} with {coordinates} and {a['nearest_mode']} is not PyTorch's")
