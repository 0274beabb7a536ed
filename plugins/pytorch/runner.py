"""A module on a device in one of the ways in which people run PyTorch, timed as they would: by the clock on the wall, with the
device synchronized before and after.
"""

import gc
import os
import subprocess
import time

import torch
import torch.fx

from graph import DTYPES, build_module
from protocol import Failure

COMPILE_MODES = {"compile": "default", "compile-reduce-overhead": "reduce-overhead", "compile-max-autotune": "max-autotune"}
WARMUP_RUNS = 3


class Runner:
    def __init__(self, graph, constants, precision, options, device):
        self.graph, self.options, self.device = graph, options, device
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.cuda = device.type == "cuda"
        self.mode = options["mode"]
        self._settings()
        module = build_module(graph, constants, self.dtype).to(device)
        self.channels_last = options["channelsLast"]
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        self.module = self.step = module
        if self.mode in COMPILE_MODES:
            if not hasattr(torch, "compile"):
                raise Failure("unsupported", f"torch.compile came with PyTorch 2, this is {torch.__version__}", "install PyTorch 2")
            self.step = torch.compile(module, mode=COMPILE_MODES[self.mode], dynamic=False)
        if self.mode == "cuda-graph" and not self.cuda:
            raise Failure("unsupported", "a CUDA graph needs a CUDA device", "take mode=eager on the CPU")
        self.replay = None
        self._warm_up()

    def _settings(self):
        tf32 = self.options["tf32"]
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = self.options["cudnnBenchmark"]
        if self.options["threads"]:
            torch.set_num_threads(self.options["threads"])

    def _warm_up(self):
        """Compiles, tries cuDNN's algorithms and captures the graph, and then forgets what only that took of the device's memory."""
        inputs = [torch.zeros(v["dims"], dtype=DTYPES[v["dtype"]]) for v in self.graph["inputs"]]
        on_device = self.upload(inputs)
        with torch.inference_mode():
            for _ in range(WARMUP_RUNS):
                self._call(on_device)
            if self.mode == "cuda-graph":
                self._capture(on_device)
        self.synchronize()
        del inputs, on_device
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _capture(self, inputs):
        self.static_inputs = [tensor.clone() for tensor in inputs]
        self.replay = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_RUNS):
                self.module(*self.static_inputs)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self.replay):
            self.static_outputs = self.module(*self.static_inputs)

    def _call(self, inputs):
        if self.replay is not None:
            self.replay.replay()
            return self.static_outputs
        if self.mode in COMPILE_MODES and hasattr(torch, "compiler") and hasattr(torch.compiler, "cudagraph_mark_step_begin"):
            torch.compiler.cudagraph_mark_step_begin()
        return self.step(*inputs)

    def upload(self, inputs):
        """Host tensors to where the module reads them, in its types and layout."""
        moved = []
        for tensor in inputs:
            tensor = tensor.to(self.device)
            if tensor.dtype == torch.float32:
                tensor = tensor.to(self.dtype)
            if self.channels_last and tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            moved.append(tensor)
        return moved

    def bind(self, inputs):
        """Inputs that the next executions read: a CUDA graph reads from one place only."""
        if self.replay is None:
            return
        for place, tensor in zip(self.static_inputs, inputs):
            place.copy_(tensor)

    def synchronize(self):
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def run(self, inputs):
        """A whole request from host tensors to host tensors, and its time in nanoseconds."""
        with torch.inference_mode():
            self.synchronize()
            start = time.perf_counter_ns()
            on_device = self.upload(inputs)
            self.bind(on_device)
            outputs = self.download(self._call(on_device))
            elapsed = time.perf_counter_ns() - start
        return outputs, elapsed

    def execute(self, inputs, count):
        """`count` executions of inputs that lie on the device, and the time until the last has ended, in nanoseconds."""
        with torch.inference_mode():
            self.bind(inputs)
            self.synchronize()
            start = time.perf_counter_ns()
            for _ in range(count):
                outputs = self._call(inputs)
            self.synchronize()
            elapsed = time.perf_counter_ns() - start
        return outputs, elapsed

    def download(self, outputs):
        """Host tensors in the graph's types. `cpu()` waits for the device."""
        types = [DTYPES[v["dtype"]] for v in self.graph["outputs"]]
        return [tensor.to(dtype).contiguous().cpu() for tensor, dtype in zip(outputs, types)]

    def profile(self, inputs):
        """Device time of each node, eager: whatever mode was asked for, only eager has nodes."""
        with torch.inference_mode():
            on_device = self.upload(inputs)
            for _ in range(WARMUP_RUNS):
                NodeTimes(self.module, self).run(*on_device)
            times = NodeTimes(self.module, self)
            times.run(*on_device)
            return times.layers()

    def device_bytes(self):
        """Device memory, by the option `memory`; None where it can't be told."""
        if not self.cuda:
            return None
        kind = self.options["memory"]
        if kind == "process":
            return process_bytes()
        return torch.cuda.max_memory_allocated() if kind == "allocated" else torch.cuda.max_memory_reserved()


class NodeTimes(torch.fx.Interpreter):
    """Runs a module node by node and sums the time of the calls that each ONNX node became."""

    def __init__(self, module, runner):
        super().__init__(module)
        self.runner, self.spans = runner, []

    def run_node(self, node):
        name = node.meta.get("onnx")
        if name is None:
            return super().run_node(node)
        if self.runner.cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = super().run_node(node)
            end.record()
            self.spans.append((name, lambda: start.elapsed_time(end) * 1e6))
        else:
            begin = time.perf_counter_ns()
            result = super().run_node(node)
            took = time.perf_counter_ns() - begin
            self.spans.append((name, lambda: took))
        return result

    def layers(self):
        self.runner.synchronize()
        sums = {}
        for name, span in self.spans:
            sums[name] = sums.get(name, 0) + span()
        return [{"layer": name, "durationNs": duration} for name, duration in sums.items()]


def process_bytes():
    """What the driver says this process holds of the device, its CUDA context included; None where nvidia-smi does not list it."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in listed.splitlines() if line.count(",") == 1]
    own = [int(used) for pid, used in rows if pid.strip() == str(os.getpid()) and used.strip().isdigit()]
    return sum(own) * 2**20 if own else None
