"""A graph file (docs/external-protocol.md) as a torch.fx GraphModule: straight-line calls, so that eager runs them without an
interpreter between, and torch.compile and CUDA graphs see what they would of a hand-written module.

Batch normalization stays a call of its own wherever the ONNX file has it as a node, as in the modules that users run; exporters
usually fold it, and what the file has folded can't be told apart any more.
"""

import json

import numpy
import torch
import torch.fx

from ops import OPS
from protocol import Failure

DTYPES = {
    "float32": torch.float32, "float16": torch.float16, "float64": torch.float64, "int8": torch.int8, "uint8": torch.uint8,
    "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool,
}
FLOATS = ("float32", "float16", "float64")


class Value:
    """A value's name and static type."""

    def __init__(self, name, dtype, dims):
        self.name, self.dtype, self.dims = name, dtype, dims


class Node:
    """One op. `bias`: a constant that the MatMul takes over from the Add behind it."""

    def __init__(self, op, name, inputs, outputs, attrs, origins):
        self.op, self.name, self.inputs, self.attrs = op, name, inputs, attrs
        self.outputs = [Value(**output) for output in outputs]
        self.bias = None

    def has(self, index):
        return index < len(self.inputs) and self.inputs[index] != ""


def read_graph(graph_path, weights_path):
    """The graph file, with constants as CPU tensors that view the weights."""
    with open(graph_path, encoding="utf-8") as file:
        graph = json.load(file)
    if graph["format"] != 1:
        raise Failure("failed", f"the graph has format {graph['format']}, this plugin reads 1", "build the engine again")
    weights = numpy.fromfile(weights_path, dtype=numpy.uint8)
    constants = {}
    for entry in graph["constants"]:
        part = weights[entry["offset"] : entry["offset"] + entry["bytes"]].view(numpy.dtype(entry["dtype"]))
        constants[entry["name"]] = torch.from_numpy(part.reshape(entry["dims"]).copy())
    return graph, constants


class Builder:
    """Puts calls into an fx graph. `dtype` is what float32 becomes."""

    def __init__(self, graph, constants, dtype):
        self.fx, self.root, self.dtype, self.constants = torch.fx.Graph(), torch.nn.Module(), dtype, constants
        self.types = {v["name"]: Value(**v) for v in graph["inputs"]}
        self.types.update({c["name"]: Value(c["name"], c["dtype"], c["dims"]) for c in graph["constants"]})
        self.nodes = [Node(**node) for node in graph["nodes"]]
        self.values, self.current = {}, None
        self.readers, self.producers = {}, {}
        outputs = [v["name"] for v in graph["outputs"]]
        for node in self.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
            for output in node.outputs:
                self.types[output.name] = output
                self.producers[output.name] = node
        self.kept = set(outputs)

    # What ops ask for.

    def call(self, function, *args, **kwargs):
        return self._mark(self.fx.call_function(function, args, kwargs))

    def call_method(self, method, *args):
        return self._mark(self.fx.call_method(method, args))

    def _mark(self, node):
        node.meta["onnx"] = self.current
        return node

    def tensor(self, name):
        if name not in self.values:
            self.values[name] = self._attribute(name, self._in_dtype(self.constants[name]))
        return self.values[name]

    def tensors(self, node):
        return [self.tensor(name) for name in node.inputs]

    def operands(self, node):
        """Both inputs; a constant of one number is that number, as people write `x * 0.5`."""
        left, right = (self._number_or_tensor(name) for name in node.inputs)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return self.tensor(node.inputs[0]), right
        return left, right

    def _number_or_tensor(self, name):
        constant = self.constants.get(name)
        if constant is None or constant.dim() > 0 or not constant.is_floating_point():
            return self.tensor(name)
        return constant.item()

    def linear_weight(self, name, transpose):
        """[out, in], contiguous, as nn.Linear holds it."""
        if not transpose:
            return self.tensor(name)
        key = f"{name} transposed"
        if key not in self.values:
            self.values[key] = self._attribute(key, self._in_dtype(self.constants[name]).t().contiguous())
        return self.values[key]

    def integers(self, node, index):
        return [int(value) for value in self._static(node, index).reshape(-1).tolist()]

    def number(self, node, index):
        return self._static(node, index).item()

    def _static(self, node, index):
        constant = self.constants.get(node.inputs[index])
        if constant is None:
            raise Failure("unsupported", f"{node.op} '{node.name}': input {index} must be known at build", "use another backend for this model")
        return constant

    def integers_on_device(self, values):
        key = f"integers {values}"
        if key not in self.values:
            self.values[key] = self._attribute(key, torch.tensor(values, dtype=torch.int64))
        return self.values[key]

    def dims(self, name):
        return self.types[name].dims

    def is_float(self, name):
        return self.types[name].dtype in FLOATS

    def torch_dtype(self, dtype, node):
        if dtype not in DTYPES:
            raise Failure("unsupported", f"{node.op} '{node.name}': PyTorch has no {dtype}", "use another backend for this model")
        return self.dtype if dtype == "float32" else DTYPES[dtype]

    def may_overwrite(self, name):
        """Whether a value is the result of arithmetic that only one node reads."""
        fresh = ("Conv", "BatchNormalization", "Add", "Gemm", "MatMul")
        return name in self.producers and self.producers[name].op in fresh and len(self.readers[name]) == 1 and name not in self.kept

    def _in_dtype(self, tensor):
        return tensor.to(self.dtype) if tensor.dtype == torch.float32 else tensor

    def _attribute(self, name, tensor):
        key = f"_c{len(self.values)}"
        self.root.register_buffer(key, tensor)
        # Weights stand first, so that what needs one never comes before it.
        with self.fx.inserting_before(self._first_call()):
            return self.fx.get_attr(key)

    def _first_call(self):
        for node in self.fx.nodes:
            if node.op not in ("placeholder", "get_attr"):
                return node
        return self.fx._root

    # The whole.

    def build(self, graph):
        for index, entry in enumerate(graph["inputs"]):
            self.values[entry["name"]] = self.fx.placeholder(f"input_{index}")
        self._find_linear_biases()
        for node in self.nodes:
            if node.op not in OPS:
                raise Failure("unsupported", f"{node.op} '{node.name}': this plugin does not have it", "use another backend for this model")
            self.current = node.name
            result = OPS[node.op](self, node)
            for output, value in zip(node.outputs, result if isinstance(result, list) else [result]):
                self.values[output.name] = value
        self.fx.output(tuple(self.tensor(entry["name"]) for entry in graph["outputs"]))
        self.fx.lint()
        return torch.fx.GraphModule(self.root, self.fx)

    def _find_linear_biases(self):
        """x · W + b, which exporters write in two nodes, is one nn.Linear in the module that was exported."""
        kept = []
        for node in self.nodes:
            product = self._product_before(node) if node.op == "Add" else None
            if product is None:
                kept.append(node)
                continue
            product.bias = next(name for name in node.inputs if name in self.constants)
            product.outputs = node.outputs
        self.nodes = kept

    def _product_before(self, add):
        bias = [name for name in add.inputs if name in self.constants]
        product = [self.producers.get(name) for name in add.inputs if name not in self.constants]
        if len(bias) != 1 or product[0] is None or product[0].op != "MatMul":
            return None
        name, weight = product[0].outputs[0].name, product[0].inputs[1]
        fits = weight in self.constants and len(self.dims(weight)) == 2 and self.dims(bias[0]) == self.dims(weight)[1:]
        return product[0] if fits and len(self.readers[name]) == 1 and name not in self.kept else None


def build_module(graph, constants, dtype):
    """A module that takes the graph's inputs in order and gives a tuple of its outputs; on the CPU, in inference mode."""
    return Builder(graph, constants, dtype).build(graph).eval()
