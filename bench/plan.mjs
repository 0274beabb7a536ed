/**
 * What an engine would dispatch on an NVIDIA H200, without one: every step of the plan with the bytes that it binds, and the least time that
 * memory and matrix units allow for it. Shows what a change of a pass or a kernel does to dispatches, pipelines and traffic.
 *
 *     npm run build && node bench/plan.mjs resnet50.onnx --precision fp16 --batch 1,128
 *     node bench/plan.mjs resnet50.onnx --precision int8 --calibration resnet50.calibration.json --batch 128 --steps --disable-pass PASS
 *     node bench/plan.mjs decoder.onnx --batch 1 --dim sequence_length=1 --dim total_sequence_length=1024 --steps
 *
 * Times are estimates, nothing is run: bytes at 3.9 TB/s and a dispatch's 3.3 µs (both measured there), operations at the rate of the ranking's
 * model. `products` are the dispatches of layers that multiply matrices. --steps lists every step, --json FILE writes them,
 * --wgsl FILE the shaders of the last batch.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { readBuildInput } from '../dist/src/backends/compile.js';
import { evaluateConstants } from '../dist/src/backends/onnxruntime/evaluate.js';
import { buildPlan } from '../dist/src/backends/webgpu/build.js';
import { planPrecision } from '../dist/src/backends/webgpu/precision.js';
import { H200 } from '../dist/src/backends/webgpu/tactics/packed-model.js';
import { runPasses } from '../dist/src/passes/pipeline.js';
import { parseCalibration } from '../dist/src/quantize/calibration.js';
import { H200_PROFILE } from './h200.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: 'string', default: 'fp16' },
    batch: { type: 'string', default: '1,128' },
    calibration: { type: 'string' },
    split: { type: 'boolean', default: false },
    'half-sums': { type: 'boolean', default: false },
    'disable-pass': { type: 'string', multiple: true, default: [] },
    dim: { type: 'string', multiple: true, default: [] },
    steps: { type: 'boolean', default: false },
    json: { type: 'string' },
    wgsl: { type: 'string' },
  },
});

const COPY_BYTES_PER_NS = 3900;
const DISPATCH_NS = 3300;
const [model] = positionals;
if (!model) throw new Error('which model?');
const modelBytes = readFileSync(model);
const calibration = flags.calibration && { cache: parseCalibration(readFileSync(flags.calibration, 'utf8'), flags.calibration), stamp: undefined };
const precision = flags.precision;
const dims = Object.fromEntries(flags.dim.map((text) => text.split('=')).map(([name, extent]) => [name, Number(extent)]));
const lines = [];
for (const batch of flags.batch.split(',').map(Number)) {
  const disabledPasses = flags['disable-pass'];
  const options = { backend: 'webgpu', precision, fusion: 'on', batch, dims, disabledPasses, backendOptions: {} };
  const input = await readBuildInput({ modelBytes, modelName: model, folder: undefined, options, calibration });
  if (!input.graph.ok) throw new Error(JSON.stringify(input.graph));
  const passes = { fusion: 'on', disabled: disabledPasses, fold: evaluateConstants };
  const precise = await planPrecision(input.graph.graph, input, passes);
  const { graph: wanted } = precise.of(precise.named?.graph ?? input.graph.graph);
  const { graph } = await runPasses(wanted, { ...passes, target: 'webgpu' });
  const { plan, layers, memory } = buildPlan(graph, H200_PROFILE, { half: precision !== 'fp32', split: flags.split, halfSums: flags['half-sums'], windows: !disabledPasses.includes('windows') });
  const steps = plan.steps.map((step, at) => ({ batch, precision, at, ...describe(step, plan, layers) }));
  lines.push(...steps);
  report(batch, steps, plan, memory);
  if (flags.wgsl) writeFileSync(flags.wgsl, plan.shaders.map(({ label, wgsl }, i) => `// ${i}: ${label}\n${wgsl}\n`).join('\n'));
}
if (flags.json) writeFileSync(flags.json, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));

/** A step's bytes and floors; operations of a layer count for its first dispatch with a tactic. */
function describe(step, plan, layers) {
  const layer = layers[step.layer];
  const { label, access } = plan.shaders[step.shader];
  const sum = (writes) => step.bindings.reduce((total, { bytes }, i) => total + ((access[i] === 'read_write') === writes ? bytes : 0), 0);
  const [read, written] = [sum(false), sum(true)];
  const product = layer.tactic !== undefined && label.includes(layer.tactic);
  const rate = layer.precision === 'int8' ? H200.matrixFlops.i8 : H200.matrixFlops.f16;
  const arithmetic = product ? layer.flops / (rate * H200.units) : 0;
  return { layer: layer.name, kind: layer.kind, label, shader: step.shader, product, read, written, memoryNs: (read + written) / COPY_BYTES_PER_NS, arithmeticNs: arithmetic };
}

function report(batch, steps, plan, memory) {
  const floor = (some) => some.reduce((total, { memoryNs, arithmeticNs }) => total + Math.max(memoryNs, arithmeticNs, DISPATCH_NS), 0) / 1000;
  const megabytes = (some) => some.reduce((total, { read, written }) => total + read + written, 0) / 1e6;
  const of = (some) => `${some.length} dispatches, ${megabytes(some).toFixed(1)} MB, at least ${floor(some).toFixed(0)} µs`;
  const [products, others] = [steps.filter(({ product }) => product), steps.filter(({ product }) => !product)];
  process.stdout.write(`\n${model} ${precision}${flags.split ? ' split' : ''}${flags['half-sums'] ? ' summed in halves' : ''}, batch ${batch}: ${plan.shaders.length} pipelines, ${(memory.weightBytes / 1e6).toFixed(1)} MB of weights\n`);
  process.stdout.write(`  products   ${of(products)}\n  others     ${of(others)}\n`);
  for (const step of flags.steps ? steps : others) {
    const { at, label, layer, shader, read, written, memoryNs, arithmeticNs } = step;
    process.stdout.write(`  ${String(at).padStart(4)} s${String(shader).padEnd(4)} ${(read / 1e6).toFixed(2).padStart(8)} + ${(written / 1e6).toFixed(2).padStart(7)} MB ${(memoryNs / 1000).toFixed(1).padStart(7)} µs ${(arithmeticNs / 1000).toFixed(1).padStart(7)} µs  ${label}  [${layer}]\n`);
  }
}
