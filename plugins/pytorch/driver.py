"""What tsrt-bench starts (`python3 -u driver.py`): answers its requests with PyTorch. One engine, one device, one process."""

import hashlib
import json
import os
import platform
import re

import protocol
from protocol import Failure

try:
    import numpy
    import torch
except ImportError as error:
    numpy = torch = None
    MISSING = f"{error}"

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = ("driver.py", "graph.py", "ops.py", "protocol.py", "runner.py")


class Driver:
    def __init__(self):
        self.folder = None
        self.runner = None
        self.outputs = []
        self.executions = {}

    def hello(self, request):
        self.folder = request["folder"]
        version = torch.__version__ if torch else "none"
        return {"protocol": protocol.VERSION, "name": "pytorch", "version": version, "capabilities": ["execute", "timing", "profile", "memory"]}

    def probe(self, _):
        if torch is None:
            fix = "install PyTorch for the Python that runs this (pip install torch numpy), or name another Python in TSRT_BENCH_PYTHON"
            return {"status": "unavailable", "reason": MISSING, "fix": fix}
        return {"status": "available", "version": torch.__version__, "devices": devices()}

    def load(self, request):
        if torch is None:
            raise Failure("unavailable", MISSING, "install PyTorch and numpy")
        from graph import read_graph
        from runner import Runner

        engine = request["engine"]
        if engine["data"]["sources"] != sources_hash():
            raise Failure("unavailable", "the engine was built for other sources of this plugin", "build the engine again")
        device, described = choose_device(request["device"], engine["data"]["options"]["device"])
        parts = {part["name"]: os.path.join(self.folder, part["file"]) for part in engine["parts"]}
        graph, constants = read_graph(parts["graph.json"], parts["weights.bin"])
        self.outputs = engine["outputs"]
        self.runner = Runner(graph, constants, engine["options"]["precision"], engine["data"]["options"], device)
        return self._with_memory({"device": described})

    def run(self, request):
        outputs, elapsed = self.runner.run(self._read(request["inputs"]))
        return self._with_memory({"outputs": self._write(outputs), "elapsedNs": elapsed})

    def prepare(self, request):
        identity = len(self.executions)
        with torch.inference_mode():
            self.executions[identity] = {"inputs": self.runner.upload(self._read(request["inputs"])), "outputs": None}
        return {"execution": identity}

    def execute(self, request):
        execution = self.executions[request["execution"]]
        execution["outputs"] = None
        execution["outputs"], elapsed = self.runner.execute(execution["inputs"], request["count"])
        return {"elapsedNs": elapsed}

    def download(self, request):
        execution = self.executions[request["execution"]]
        if execution["outputs"] is None:
            execution["outputs"], _ = self.runner.execute(execution["inputs"], 1)
        with torch.inference_mode():
            return {"outputs": self._write(self.runner.download(execution["outputs"]))}

    def release(self, request):
        self.executions[request["execution"]] = None

    def profile(self, request):
        return {"layers": self.runner.profile(self._read(request["inputs"]))}

    def memory(self, _):
        return self._with_memory({})

    def dispose(self, _):
        self.runner = None
        self.executions = {}

    def _with_memory(self, body):
        device_bytes = self.runner.device_bytes()
        return body if device_bytes is None else {**body, "deviceBytes": device_bytes}

    def _read(self, files):
        """In the order of the engine's inputs, as host tensors."""
        arrays = (numpy.fromfile(os.path.join(self.folder, f["file"]), dtype=numpy.dtype(f["dtype"])).reshape(f["dims"]) for f in files)
        return [torch.from_numpy(array) for array in arrays]

    def _write(self, outputs):
        described = []
        for index, (binding, tensor) in enumerate(zip(self.outputs, outputs)):
            file = f"out-{index}.bin"
            tensor.numpy().tofile(os.path.join(self.folder, file))
            described.append({"name": binding["name"], "dtype": binding["dtype"], "dims": list(tensor.shape), "file": file})
        return described


def sources_hash():
    """SHA-256 over this plugin's Python files: engines are bound to them, as to the rest of the plugin."""
    total = hashlib.sha256()
    for name in SOURCES:
        with open(os.path.join(HERE, name), "rb") as file:
            total.update(file.read())
    return total.hexdigest()


def devices():
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        properties = {
            "torch": torch.__version__, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version()),
            "capability": f"{facts.major}.{facts.minor}", "memoryBytes": str(facts.total_memory), "index": str(index),
        }
        found.append({"slug": slug(facts.name), "kind": "gpu", "description": f"{facts.name}, PyTorch {torch.__version__}", "properties": properties})
    # The harness describes the processor, so that records of other backends on it compare.
    cpu = json.loads(os.environ.get("TSRT_BENCH_CPU_DEVICE", "null")) or {
        "slug": slug(f"cpu-{platform.machine()}"), "kind": "cpu", "description": platform.machine(), "properties": {},
    }
    found.append({**cpu, "properties": {**cpu["properties"], "torch": torch.__version__, "threads": str(torch.get_num_threads())}})
    return found


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def choose_device(wanted, kind):
    """The device by slug, else the first of the kind that the build option `device` says, and its description."""
    listed = [device for device in devices() if kind == "auto" or device["kind"] == {"cuda": "gpu", "cpu": "cpu"}[kind]]
    chosen = next((device for device in listed if wanted in (None, device["slug"])), None)
    if chosen is None:
        names = ", ".join(device["slug"] for device in devices())
        raise Failure("usage", f"PyTorch has no device '{wanted or kind}' here", f"There are: {names}.")
    return torch.device("cpu" if chosen["kind"] == "cpu" else f"cuda:{chosen['properties']['index']}"), chosen


def translate(error):
    """PyTorch's own exceptions as failures that the harness knows."""
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if torch is not None and (isinstance(error, getattr(torch.cuda, "OutOfMemoryError", ())) or "not enough memory" in message):
        return Failure("out-of-memory", message, "use a smaller batch or fp16")
    if "CUDA error" in message:
        return Failure("device-lost", message, "run it again; if it comes back, look at the driver's log")
    return None


if __name__ == "__main__":
    driver = Driver()
    names = ("hello", "probe", "load", "run", "prepare", "execute", "download", "release", "profile", "memory", "dispose")
    protocol.serve({name: getattr(driver, name) for name in names}, translate)
