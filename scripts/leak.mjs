/**
 * Loads, runs and disposes of an engine again and again and looks at what stays: `node scripts/leak.mjs [CYCLES] [MODEL.onnx]`,
 * after `npm run build`. Runs on the first adapter; TSRT_BENCH_SWIFTSHADER=1 for the software one.
 *
 * Buffers and query sets still alive on the device must be none after every cycle. Resident memory settles during the first
 * quarter; after it, the median growth between 20 windows may be 8 KiB a cycle. The median passes over the single steps in which
 * heaps and drivers' arenas grow; what every cycle leaves behind, it shows.
 */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { compileModel } from '../dist/src/backends/compile.js';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { createSession } from '../dist/src/backends/webgpu/session.js';
import { webgpuBackend } from '../dist/src/backends/webgpu/webgpu.js';
import { fromNumbers } from '../dist/src/ir/tensor.js';
import { seededInputs } from '../dist/src/measure/inputs.js';
import { exportGraph } from '../dist/src/onnx/export.js';
import { newGraphBuilder } from '../dist/src/ops/builder.js';

const { positionals } = parseArgs({ allowPositionals: true });
const [cycles, file] = [Number(positionals[0] ?? 1000), positionals[1]];
const LIMIT_BYTES = 8192;
const WINDOWS = 20;

/** A convolution and a matrix product, where no model is given. */
function smallModel() {
  const graph = newGraphBuilder('small');
  graph.input('x', { dtype: 'float32', dims: [1, 8, 16, 16] });
  const weights = (dims) => graph.constant(fromNumbers('float32', dims, Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => Math.sin(i))));
  const conv = graph.node('Conv', ['x', weights([16, 8, 3, 3])], {
    auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1],
  });
  const pooled = graph.node('GlobalAveragePool', [graph.node('Relu', [conv], {})], {});
  return exportGraph(graph.finish([graph.node('MatMul', [graph.node('Flatten', [pooled], { axis: 1 }), weights([16, 4])], {})]));
}

/** The device, with every buffer and query set counted from its making to its destruction. */
function counted(open) {
  const alive = new Map();
  const track = (made, bytes) => {
    const destroy = made.destroy.bind(made);
    alive.set(made, bytes);
    Object.defineProperty(made, 'destroy', { value: () => void (alive.delete(made), destroy()) });
    return made;
  };
  const device = new Proxy(open.device, {
    get(target, key) {
      if (key === 'createBuffer') return (descriptor) => track(target.createBuffer(descriptor), descriptor.size);
      if (key === 'createQuerySet') return (descriptor) => track(target.createQuerySet(descriptor), descriptor.count * 8);
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { open: { ...open, device }, alive };
}

/** Median over windows of the growth per value inside each. */
function medianGrowth(values) {
  const width = Math.floor(values.length / WINDOWS);
  if (width < 2) return 0;
  const growths = Array.from({ length: WINDOWS }, (_, i) => (values[(i + 1) * width - 1] - values[i * width]) / (width - 1)).sort((a, b) => a - b);
  return (growths[WINDOWS / 2 - 1] + growths[WINDOWS / 2]) / 2;
}

const engine = await compileModel({
  modelBytes: file ? await readFile(file) : smallModel(),
  modelName: file ?? 'small',
  folder: file && dirname(resolve(file)),
  options: {
    backend: 'webgpu', precision: 'fp32', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {},
  },
  backend: webgpuBackend,
  context: { signal: undefined, onProgress: undefined },
});
const { open, alive } = counted(await chooseDevice({ wanted: undefined, unchecked: true }));
const inputs = seededInputs(engine.header.inputs, 1);
const resident = [];
for (let cycle = 0; cycle < cycles; cycle++) {
  const session = await createSession(engine, open);
  const execution = await session.prepare(inputs);
  await execution.execute(2);
  await session.run(inputs);
  await session.dispose();
  if (alive.size > 0) throw new Error(`cycle ${cycle}: ${alive.size} objects of ${[...alive.values()].reduce((a, b) => a + b, 0)} bytes are left on the device`);
  globalThis.gc?.();
  resident.push(process.memoryUsage.rss());
}
open.destroy();
const bytesPerCycle = medianGrowth(resident.slice(Math.ceil(cycles / 4)));
process.stdout.write(`${cycles} cycles on ${open.info.slug}: nothing left on the device; resident memory ${(resident.at(-1) / 2 ** 20).toFixed(1)} MiB, ${Math.round(bytesPerCycle)} bytes a cycle\n`);
if (bytesPerCycle > LIMIT_BYTES) {
  process.stderr.write(`resident memory grows by more than ${LIMIT_BYTES} bytes a cycle\n`);
  process.exitCode = 1;
}
