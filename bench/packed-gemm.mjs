/**
 * Rates of the packed matrix kernel: every candidate tactic on every shape, warmed up and checked.
 *
 *     npm run build && node bench/packed-gemm.mjs --resnet 1,128 --elements f16,i8 --seconds 300
 *     node bench/packed-gemm.mjs --shapes 4096x4096x4096,conv:1x14x14x256:256k3s1p1 --candidates 40
 *     node bench/packed-gemm.mjs --shapes runs:128x224x224x3:64k7s2p3 --candidates 40 --also '256x64x4 64x64 slide=1 buffers=2'
 *     node bench/packed-gemm.mjs --slow --per-tile 1 --candidates 8 --against results.jsonl --seconds 140
 *
 * A shape is MxNxK, conv:NxHxWxC:OkKsSpP (square filters), or runs:NxHxWxC:OkKsSpP with an even stride: a convolution of few channels whose
 * image lies in runs of pixels as the compiler lays it out, by a kernel that is not timed here; --slow are those of ResNet-50 that are furthest from the roofline. Kernels
 * end as in a network: bias (and scale by column), a residual with --residual, ReLU (--end relu, gelu or none), and a store in the operands' own type; bytes are
 * quantized by the expression that the compiler writes for them. A card that idled runs at a fraction of its clock, so that timing begins
 * after half a second of continuous work and batches of at least 20 dispatches follow one another without a pause. Outputs
 * are sampled and compared with float64. One line per tactic, fastest first: time of one run of its kernels, rate, rank and
 * prediction of the model, time until its pipelines were there (all are made at once). What fails is listed with its error.
 * --candidates N, --per-tile N and --per-block N widen the model's list, --lanes N adds plain WGSL, --filter takes a regular expression on names, --also adds
 * tactics by name where they are legal (separated by commas, depths in vectors of 16 bytes: `128x128x4 64x64 wide=8 rounds=2`, slide=1 where rows overlap, stationary=1 where rows stay in registers), --json FILE
 * gets one line per result (bench/packed-fit.mjs fits the model to them), --against FILE compares with the best of an earlier such file, --wgsl FILE the shaders. --memory KB,KB,… times the
 * model's first tactic of every shape with more workgroup memory than it needs: where the time jumps, a workgroup less fits on a unit.
 * --halves stores results of bytes as halves (and reads a residual of halves), as a product before a normalization does.
 * --normalized known or summed normalizes the rows of a matrix of halves, by sums of --sum-columns neighbours that are given or by what the kernel sees of them;
 * --row-sums leaves such sums of the results.
 * --half-sums sums products of halves in halves, where what is right takes the rounding of as many sums as matrices are deep.
 * --cold-code runs a kernel before each that leaves nothing in the units' instruction caches, as a network does (its own time is taken off).
 * --copies N reads the weights from N places in turn, as a network does whose weights no cache holds.
 * At the end stands what an untuned build loses: the time of the model's first tactic, and of the best of its first eight, over the best.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { overlapOf } from '../dist/src/backends/webgpu/kernels/packed/slide.js';
import { packedKernels } from '../dist/src/backends/webgpu/kernels/packed/kernel.js';
import { packedColumns } from '../dist/src/backends/webgpu/kernels/packed/spec.js';
import { stridedParts } from '../dist/src/backends/webgpu/kernels/packed/stationary.js';
import { matricesOf } from '../dist/src/backends/webgpu/profile.js';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { storedBytes } from '../dist/src/backends/webgpu/lower/tensor.js';
import { USAGE } from '../dist/src/backends/webgpu/resources.js';
import { VECTOR_ELEMENTS, fewestRounds, matrixSubgroup, packedReason, packedTacticName, packedWorkgroupBytes } from '../dist/src/backends/webgpu/tactics/packed.js';
import { dequantizedExpr, quantizedExpr } from '../dist/src/passes/linear-grid.js';
import { packedTactics } from '../dist/src/backends/webgpu/tactics/packed-candidates.js';
import { predictPackedNs } from '../dist/src/backends/webgpu/tactics/packed-model.js';
import { float16ToNumber, numberToFloat16 } from '../dist/src/ir/tensor.js';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: '' },
    resnet: { type: 'string', default: '' },
    slow: { type: 'boolean', default: false },
    also: { type: 'string', default: '' },
    against: { type: 'string' },
    memory: { type: 'string', default: '' },
    copies: { type: 'string', default: '1' },
    'cold-code': { type: 'boolean', default: false },
    elements: { type: 'string', default: 'f16,i8' },
    seconds: { type: 'string', default: '300' },
    device: { type: 'string' },
    candidates: { type: 'string', default: '16' },
    'per-tile': { type: 'string', default: '2' },
    'per-block': { type: 'string', default: '1' },
    lanes: { type: 'string', default: '0' },
    filter: { type: 'string', default: '' },
    residual: { type: 'boolean', default: false },
    halves: { type: 'boolean', default: false },
    end: { type: 'string', default: 'relu' },
    'half-sums': { type: 'boolean', default: false },
    normalized: { type: 'string' },
    'row-sums': { type: 'boolean', default: false },
    'sum-columns': { type: 'string', default: '32' },
    'warm-ms': { type: 'string', default: '500' },
    'batch-ms': { type: 'string', default: '6' },
    repeats: { type: 'string', default: '20' },
    json: { type: 'string' },
    wgsl: { type: 'string' },
  },
});
const deadline = performance.now() + Number(flags.seconds) * 1000;
const say = (line) => process.stdout.write(`${line}\n`);

/** [channels, height and width, filter, stride, outputs, layers] of ResNet-50's convolutions without the first. */
const RESNET50 = [
  [64, 56, 1, 1, 64, 1], [64, 56, 3, 1, 64, 3], [64, 56, 1, 1, 256, 4], [256, 56, 1, 1, 64, 2],
  [256, 56, 1, 1, 128, 1], [128, 56, 3, 2, 128, 1], [128, 28, 1, 1, 512, 4], [256, 56, 1, 2, 512, 1], [512, 28, 1, 1, 128, 3], [128, 28, 3, 1, 128, 3],
  [512, 28, 1, 1, 256, 1], [256, 28, 3, 2, 256, 1], [256, 14, 1, 1, 1024, 6], [512, 28, 1, 2, 1024, 1], [1024, 14, 1, 1, 256, 5], [256, 14, 3, 1, 256, 5],
  [1024, 14, 1, 1, 512, 1], [512, 14, 3, 2, 512, 1], [512, 7, 1, 1, 2048, 3], [1024, 14, 1, 2, 2048, 1], [2048, 7, 1, 1, 512, 2], [512, 7, 3, 1, 512, 2],
];

/** Batch, channels, height and width, filter, stride, outputs. */
const SLOW = [
  [128, 64, 56, 1, 1, 256], [128, 64, 56, 3, 1, 64], [128, 256, 56, 1, 1, 64], [128, 256, 56, 1, 1, 128], [128, 128, 28, 1, 1, 512],
  [128, 128, 28, 3, 1, 128], [128, 256, 14, 1, 1, 1024], [128, 256, 14, 3, 1, 256], [128, 512, 7, 1, 1, 2048], [128, 512, 7, 3, 1, 512],
  [1, 128, 56, 3, 2, 128], [1, 256, 28, 3, 2, 256], [1, 256, 14, 3, 1, 256], [1, 512, 14, 3, 2, 512], [1, 512, 7, 3, 1, 512], [1, 2048, 7, 1, 1, 512],
];

const convolution = (images, height, width, channels, outputs, kernel, stride, pad, layers = 1) => ({
  label: `conv:${images}x${height}x${width}x${channels}:${outputs}k${kernel}s${stride}p${pad}`,
  images, height, width, channels, outputs, kernel, stride, pad, layers,
});

function shapesOf() {
  const named = flags.shapes.split(',').filter(Boolean).map((text) => {
    const conv = /^(conv|runs):(\d+)x(\d+)x(\d+)x(\d+):(\d+)k(\d+)s(\d+)p(\d+)$/.exec(text);
    if (conv) return { group: 'shapes', ...convolution(...conv.slice(2).map(Number)), label: text, runs: conv[1] === 'runs' };
    const product = /^(\d+)x(\d+)x(\d+)$/.exec(text);
    if (!product) throw new Error(`no shape: ${text}`);
    const [rows, columns, depth] = product.slice(1).map(Number);
    return { group: 'shapes', ...convolution(1, 1, rows, depth, columns, 1, 1, 0), label: text };
  });
  const networks = flags.resnet.split(',').filter(Boolean).flatMap((images) =>
    RESNET50.map(([channels, size, kernel, stride, outputs, layers]) => ({
      group: `ResNet-50 at batch ${images}`,
      ...convolution(Number(images), size, size, channels, outputs, kernel, stride, (kernel - 1) / 2, layers),
    })),
  );
  const slow = SLOW.map(([images, channels, size, kernel, stride, outputs]) => ({
    group: `slow shapes at batch ${images}`,
    ...convolution(images, size, size, channels, outputs, kernel, stride, (kernel - 1) / 2),
  }));
  return [...named, ...networks, ...(flags.slow ? slow : [])];
}

const constant = (value) => ({ kind: 'const', value, dtype: 'float32' });
const binary = (fn, a, b) => ({ kind: 'binary', fn, a, b });
/** By --end: the expression, and its value in float64 (GELU's by the hyperbolic tangent is less than 5e-4 off, which no check here sees). */
const ENDS = {
  none: { expr: (x) => x, of: (x) => x },
  relu: { expr: (x) => binary('max', x, constant(0)), of: (x) => Math.max(0, x) },
  gelu: {
    expr: (x) => binary('mul', binary('mul', x, constant(0.5)), binary('add', { kind: 'unary', fn: 'erf', x: binary('mul', x, constant(Math.SQRT1_2)) }, constant(1))),
    of: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  },
};
const end = ENDS[flags.end];
if (!end) throw new Error(`--end ${flags.end}: one of ${Object.keys(ENDS).join(', ')}`);

let ids = 0;
const tensor = (dims, storage, layout = 'linear', dtype = storage === 'f32' ? 'float32' : storage === 'i8' ? 'int8' : 'float16') => ({ id: ids++, dtype, dims, storage, layout });

let seed = 1;
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 31 - 1;
};
/** Random elements of a length that no tile divides, repeated. */
const PERIOD = 1_000_003;
const NOISE = { f16: Uint16Array.from({ length: PERIOD }, () => numberToFloat16(random())), i8: Int8Array.from({ length: PERIOD }, () => Math.round(random() * 127)) };

function noisy(element, bytes) {
  const filled = element === 'f16' ? new Uint16Array(bytes / 2) : new Int8Array(bytes);
  const noise = NOISE[element];
  for (let at = 0; at < filled.length; at += PERIOD) filled.set(at + PERIOD <= filled.length ? noise : noise.subarray(0, filled.length - at), at);
  return filled;
}

/** A convolution over pixels of four elements (of two rows, for bytes) as one of 1×1×run vectors by rows of the filter, and what it reads. */
function runsOf({ images, height, width, channels, kernel, stride, pad }, element) {
  const [outHeight, outWidth] = [height, width].map((extent) => Math.floor((extent + 2 * pad - kernel) / stride) + 1);
  if (channels > 4 || stride % 2 !== 0) throw new Error('runs are of up to four channels, with an even stride');
  const together = element === 'i8' ? 2 : 1;
  const [taps, run] = [Math.ceil(kernel / together), Math.ceil(kernel / 2)];
  const [rows, rowVectors] = [((outHeight - 1) * stride) / together + taps, ((outWidth - 1) * stride) / 2 + run];
  return {
    dims: [images, rows, rowVectors * 2, together * 4],
    depth: taps * run,
    a: {
      kind: 'image', offset: 0, imageStride: rows * rowVectors, spatialStrides: [rowVectors, stride / 2], groupStride: 0, images, inputSpatial: [rows, outWidth],
      outputSpatial: [outHeight, outWidth], kernel: [taps, 1], stride: [stride / together, 1], dilation: [1, 1], padBegin: [0, 0], channels: run, pad: 0,
    },
  };
}

/** The normalization of a matrix' rows, with the contents of what it reads: by column the sums of the weights, and by row those that are given. */
function normalization(contents, x, w, rows, outputs, columns) {
  const [values, weights] = [contents.get(x.id), contents.get(w.id)];
  const depth = values.length / rows;
  const across = packedColumns(outputs);
  const weightSums = Float32Array.from({ length: outputs }, (_, column) => {
    let total = 0;
    for (let k = 0; k < depth; k++) total += float16ToNumber(weights[(Math.floor(k / 8) * across + column) * 8 + (k % 8)]);
    return total;
  });
  const groups = depth / columns;
  const given = new Float32Array(groups * rows * 2);
  for (let at = 0; at < rows * depth; at++) {
    const [row, group] = [Math.floor(at / depth), Math.floor((at % depth) / columns)];
    const value = float16ToNumber(values[at]);
    given[(group * rows + row) * 2] += value;
    given[(group * rows + row) * 2 + 1] += value * value;
  }
  const [sums, pairs] = [tensor([outputs], 'f32'), tensor([groups, rows, 2], 'f32')];
  contents.set(sums.id, weightSums);
  contents.set(pairs.id, given);
  const epsilon = 1e-5;
  const total = (row, part) => {
    let sum = 0;
    for (let group = 0; group < groups; group++) sum += given[(group * rows + row) * 2 + part];
    return sum / depth;
  };
  return {
    spec: { epsilon, count: depth, sums: { tensor: sums, view: { offset: 0, strides: [0, 0, 0, 0, 1] } }, rowSums: flags.normalized === 'known' ? { tensor: pairs, columns } : undefined, moments: undefined },
    tensors: [sums, pairs],
    of(dot, row, column) {
      const mean = total(row, 0);
      return (dot - mean * weightSums[column]) / Math.sqrt(total(row, 1) - mean * mean + epsilon);
    },
  };
}

/** The specification of a shape, the contents of its tensors, and one output element in float64. */
function problemOf(shape, element) {
  const lanes = VECTOR_ELEMENTS[element];
  const { images, height, width, channels, outputs, kernel, stride, pad } = shape;
  const runs = shape.runs ? runsOf(shape, element) : undefined;
  if (!runs && channels % lanes !== 0) throw new Error(`${shape.label}: channels are not whole vectors`);
  const [outHeight, outWidth] = [height, width].map((extent) => Math.floor((extent + 2 * pad - kernel) / stride) + 1);
  const vectors = channels / lanes;
  const x = runs ? tensor(runs.dims, element) : tensor([images, channels, height, width], element, 'channels-last');
  const stored = Math.ceil(outputs / lanes) * lanes;
  const depth = runs?.depth ?? kernel * kernel * vectors;
  const w = tensor([depth, packedColumns(outputs) * lanes], element);
  const [bias, factors] = [tensor([stored], 'f32'), tensor([stored], 'f32')];
  // Activations after a ReLU are uint8 as a rule; they lie 128 lower.
  const stores = element === 'i8' && flags.halves ? 'f16' : element;
  const grid = stores === 'i8' ? { dtype: 'uint8', scale: 0.02, zero: 3 } : undefined;
  const out = tensor([images, outputs, outHeight, outWidth], stores, 'channels-last', grid?.dtype);
  const residual = flags.residual ? tensor(out.dims, stores, 'channels-last', grid?.dtype) : undefined;
  const rows = [images, outHeight, outWidth];
  const byColumn = { offset: 0, strides: [0, 0, 0, 0, 1] };
  const dense = { offset: 0, strides: [0, outHeight * outWidth * stored, outWidth * stored, stored, 1] };
  const scale = (element === 'f16' ? 1 : 0.0004) / Math.sqrt(depth * lanes);
  const plain = kernel === 1 && stride === 1;
  const contents = new Map([
    [x.id, noisy(element, storedBytes(x))],
    [w.id, noisy(element, storedBytes(w))],
    [bias.id, Float32Array.from({ length: stored }, (_, i) => (i % 7) * 0.25 - 0.5)],
    [factors.id, Float32Array.from({ length: stored }, (_, i) => scale * (1 + (i % 5) * 0.1))],
    ...(residual ? [[residual.id, noisy(stores, storedBytes(residual))]] : []),
  ]);
  const size = images * outHeight * outWidth;
  const summed = Number(flags['sum-columns']);
  const normal = flags.normalized && normalization(contents, x, w, size, outputs, summed);
  const rowSums = flags['row-sums'] ? { tensor: tensor([outputs / summed, size, 2], 'f32'), columns: summed } : undefined;
  const input = (index, dtype = 'float32') => ({ kind: 'input', index, dtype });
  const other = grid ? dequantizedExpr(input(1, grid.dtype), grid) : input(1);
  const sum = residual ? binary('add', input(0), other) : input(0);
  const ended = end.expr(sum);
  const spec = {
    label: 'bench',
    element,
    batch: [1],
    rows,
    columns: outputs,
    storedColumns: stored,
    depth,
    scale: element === 'f16' ? scale : 1,
    biasScale: 1,
    a: runs ? { ...runs.a, tensor: x } : plain
      ? { kind: 'matrix', tensor: x, view: { offset: 0, strides: [0, height * width * vectors, width * vectors, vectors] } }
      : {
          kind: 'image', tensor: x, offset: 0, imageStride: height * width * vectors, spatialStrides: [width * vectors, vectors], groupStride: 0, images,
          inputSpatial: [height, width], outputSpatial: [outHeight, outWidth], kernel: [kernel, kernel], stride: [stride, stride], dilation: [1, 1],
          padBegin: [pad, pad], channels: vectors, pad: 0,
        },
    b: { kind: 'packed', tensor: w, columns: packedColumns(outputs), grouped: false },
    bias: { tensor: bias, view: byColumn },
    columnScale: element === 'i8' ? { tensor: factors, view: byColumn } : undefined,
    extras: residual ? [{ tensor: residual, view: dense }] : [],
    epilogue: grid ? quantizedExpr(ended, grid) : ended,
    output: { tensor: out, view: dense },
    ...(normal && { normalization: normal.spec }),
    ...(rowSums && { rowSums }),
  };
  const number = (array, i) => (array instanceof Uint16Array ? float16ToNumber(array[i]) : array[i]);
  const sumOfRuns = (image, y, xAt, column) => {
    const { imageStride, spatialStrides, stride: strides, channels: run } = runs.a;
    const first = image * imageStride + y * strides[0] * spatialStrides[0] + xAt * spatialStrides[1];
    let total = 0;
    for (let k = 0; k < depth; k++) {
      const at = first + Math.floor(k / run) * spatialStrides[0] + (k % run);
      for (let c = 0; c < lanes; c++) total += number(contents.get(x.id), at * lanes + c) * number(contents.get(w.id), (k * packedColumns(outputs) + column) * lanes + c);
    }
    return total;
  };
  const sumOfTaps = (image, y, xAt, column) => {
    const [a, b] = [contents.get(x.id), contents.get(w.id)];
    let total = 0;
    for (let tap = 0; tap < kernel * kernel; tap++) {
      const [py, px] = [y * stride - pad + Math.floor(tap / kernel), xAt * stride - pad + (tap % kernel)];
      if (py < 0 || px < 0 || py >= height || px >= width) continue;
      for (let c = 0; c < channels; c++) {
        const k = tap * vectors + Math.floor(c / lanes);
        total += number(a, ((image * height + py) * width + px) * channels + c) * number(b, (k * packedColumns(outputs) + column) * lanes + (c % lanes));
      }
    }
    return total;
  };
  const expected = (row, column) => {
    const [image, y, xAt] = [Math.floor(row / (outHeight * outWidth)), Math.floor(row / outWidth) % outHeight, row % outWidth];
    const taps = (runs ? sumOfRuns : sumOfTaps)(image, y, xAt, column);
    const total = normal ? normal.of(taps, row, column) : taps;
    let value = total * (element === 'i8' ? contents.get(factors.id)[column] : scale) + contents.get(bias.id)[column];
    if (residual) {
      const raw = number(contents.get(residual.id), row * stored + column);
      value += grid ? (raw + 128 - grid.zero) * grid.scale : raw;
    }
    value = end.of(value);
    return grid ? Math.min(255, Math.max(0, Math.round(value / grid.scale) + grid.zero)) - 128 : value;
  };
  const tensors = [x, w, bias, out, ...(element === 'i8' ? [factors] : []), ...(residual ? [residual] : []), ...(normal ? normal.tensors : []), ...(rowSums ? [rowSums.tensor] : [])];
  return {
    spec, tensors, contents, expected, stored,
    shape: { element, batch: 1, rows: size, columns: outputs, depth, readsRows: flags.residual, halfSums: flags['half-sums'], overlap: overlapOf(spec.a), ...(flags.normalized && { normalizes: flags.normalized }), ...(rowSums && { rowSums: summed }), stationary: stridedParts(spec)?.map((part) => part.depth) },
    flops: 2 * size * outputs * kernel * kernel * channels,
  };
}

const opened = await chooseDevice({ wanted: flags.device, unchecked: true });
const { device, profile } = opened;
say(`${opened.info.description}; matrices: ${profile.matrixConfigs.map((c) => `${c.element}>${c.result} ${c.m}x${c.n}x${c.k}`).join(', ') || 'none'}`);

function upload(bytes, contents) {
  const buffer = device.createBuffer({ size: bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst });
  const step = 64 * 2 ** 20;
  if (contents) for (let at = 0; at < contents.byteLength; at += step) {
    device.queue.writeBuffer(buffer, at, contents.buffer, contents.byteOffset + at, Math.min(step, contents.byteLength - at));
  }
  return buffer;
}

/** Pipelines and bind groups of a tactic, or the error. */
async function prepare(problem, tactic, buffers, scratch, memoryBytes = 0) {
  const started = performance.now();
  const calls = packedKernels(problem.spec, tactic, profile, (count) => {
    const made = tensor([count], 'f32');
    const bytes = storedBytes(made);
    if (!scratch.buffer || scratch.buffer.size < bytes) {
      scratch.old.push(scratch.buffer);
      scratch.buffer = upload(bytes);
    }
    buffers.set(made.id, { buffer: scratch.buffer, size: bytes });
    return made;
  });
  const steps = await Promise.all(calls.map(async ({ source, operands, workgroups }) => {
    if (flags.wgsl) appendFileSync(flags.wgsl, `// ${source.label}\n${source.wgsl}\n`);
    const code = source.wgsl.replace(/(var<workgroup> tile: array<vec4<u32>, )(\d+)/, (_, head, count) => `${head}${Math.max(Number(count), memoryBytes / 16)}`);
    const module = device.createShaderModule({ code });
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    const groupOf = (weights) => {
      const entries = operands.map(({ id }, binding) => ({ binding, resource: id === problem.spec.b.tensor.id ? weights : buffers.get(id) }));
      return device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    };
    // The second kernel of a split product has no weights: its groups are alike.
    return { pipeline, groups: [buffers.get(problem.spec.b.tensor.id), ...problem.copies].map(groupOf), workgroups };
  }));
  return { steps, compileMs: performance.now() - started };
}

/** About 150 KB of code for every unit, where one caches 128. */
async function flusher() {
  const lines = Array.from({ length: 3000 }, (_, i) => `  x = (x ^ (x >> ${(i % 13) + 3}u)) * ${(Math.imul(i + 1, 2654435761) | 1) >>> 0}u;`);
  const code = `@group(0) @binding(0) var<storage, read_write> out: array<u32, 64>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lid: u32) {
  var x = lid + out[lid];
${lines.join('\n')}
  out[lid] = x;
}`;
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module: device.createShaderModule({ code }), entryPoint: 'main' } });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: upload(256) } }] });
  return { pipeline, groups: [group], workgroups: [528] };
}
const flush = flags['cold-code'] ? await flusher() : undefined;

async function batch(steps, repeats) {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < repeats; i++) {
    for (const { pipeline, groups, workgroups } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, groups[i % groups.length]);
      pass.dispatchWorkgroups(...workgroups);
    }
  }
  pass.end();
  const commands = encoder.finish();
  const start = performance.now();
  device.queue.submit([commands]);
  await device.queue.onSubmittedWorkDone();
  return performance.now() - start;
}

/** Milliseconds of one run: the least of three batches, each long enough for the clock. */
async function time(steps) {
  if (!flush) return timeOf(steps);
  const both = await timeOf([flush, ...steps]);
  return { ms: both.ms - (await timeOf([flush])).ms, spread: both.spread };
}

async function timeOf(steps) {
  const least = Number(flags.repeats);
  const once = (await batch(steps, 2)) / 2;
  const repeats = Math.max(least, Math.min(2000, Math.ceil(Number(flags['batch-ms']) / once)));
  const times = [];
  for (let i = 0; i < 3; i++) times.push((await batch(steps, repeats)) / repeats);
  return { ms: Math.min(...times), spread: Math.max(...times) / Math.min(...times) - 1 };
}

/** Sampled points: corners, and others drawn once per shape. */
function samplesOf({ shape: { rows, columns } }) {
  const draw = (count) => Math.floor(((random() + 1) / 2) * count);
  return [[0, 0], [rows - 1, columns - 1], [0, columns - 1], [rows - 1, 0], ...Array.from({ length: 28 }, () => [draw(rows), draw(columns)])];
}

/** The worst sampled error, in steps that rounding explains: 1 is right. Only the samples' vectors of 16 bytes are read back. */
async function errorOf(problem, samples, buffer) {
  const lanes = VECTOR_ELEMENTS[problem.spec.output.tensor.storage];
  const copy = device.createBuffer({ size: samples.length * 16, usage: USAGE.mapRead | USAGE.copyDst });
  const encoder = device.createCommandEncoder();
  for (const [i, { row, column }] of samples.entries()) {
    encoder.copyBufferToBuffer(buffer, Math.floor((row * problem.stored + column) / lanes) * 16, copy, i * 16, 16);
  }
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(USAGE.mapRead);
  const bytes = copy.getMappedRange().slice(0);
  copy.destroy();
  // Results are scaled by 1/√depth: what sums of halves are off by is a walk of errors of half a unit in the last place.
  const drift = flags['half-sums'] ? 2 ** -10 * Math.sqrt((problem.spec.depth * lanes) / 16) : 0;
  let worst = 0;
  for (const [i, { column, wanted }] of samples.entries()) {
    const at = i * lanes + (column % lanes);
    const value = lanes === 8 ? float16ToNumber(new Uint16Array(bytes)[at]) : new Int8Array(bytes)[at];
    const step = lanes === 16 ? 1 : Math.max(2 ** -10, Math.abs(wanted) * 2 ** -9) + drift;
    const gap = Math.abs(value - wanted) / step;
    worst = Number.isNaN(gap) ? Infinity : Math.max(worst, gap);
  }
  return worst;
}

/** Tactics by name: tile, tile of a subgroup, and whatever differs from the simplest. */
function namedTactics({ element, overlap }) {
  const size = matrixSubgroup(profile);
  const config = matricesOf(profile, element, element === 'f16' && flags['half-sums']).find((c) => c.m === 16 && c.n === 16);
  if (!size || !config) return [];
  return flags.also.split(',').filter(Boolean).map((text) => {
    const [block, sub, ...rest] = text.trim().split(' ');
    const [bm, bn, bk] = block.split('x').map(Number);
    const [sm, sn] = sub.split('x').map(Number);
    const { slide: slides, stationary: stays, ...fields } = Object.fromEntries(rest.map((field) => field.split('=')).map(([name, value]) => [name, Number(value)]));
    const halfSums = element === 'f16' && flags['half-sums'];
    const matrix = { m: config.m, n: config.n, k: config.k };
    const slide = slides && overlap && overlap.line % matrix.m === 0 ? { step: overlap.step, run: overlap.run, window: matrix.k / VECTOR_ELEMENTS[element] } : undefined;
    const tile = { kind: 'packed', engine: 'matrix', matrix, subgroup: size.size, demandsSubgroup: size.demands, bm, bn, bk, sm, sn, splitK: 1, slices: 1, buffers: 1, ahead: 1, walk: 1, wide: halfSums ? 8 : 4, halfSums, stationary: stays === 1, slide, ...fields };
    return { ...tile, rounds: tile.rounds ?? fewestRounds(tile, profile.maxWorkgroupBytes) };
  });
}

/** The best times of an earlier run. */
const EARLIER = new Map();
if (flags.against) for (const line of readFileSync(flags.against, 'utf8').trim().split('\n')) {
  const { shape, element, ms, name } = JSON.parse(line);
  const key = `${element} ${shape}`;
  if (!(EARLIER.get(key)?.ms <= ms)) EARLIER.set(key, { ms, name });
}

async function benchMemory(problem, tactic, buffers, scratch) {
  const needed = packedWorkgroupBytes(tactic);
  const times = [];
  for (const bytes of flags.memory.split(',').map((kb) => Number(kb) * 1024).filter((size) => size > needed && size <= profile.maxWorkgroupBytes)) {
    const { steps } = await prepare(problem, tactic, buffers, scratch, bytes);
    await batch(steps, 20);
    times.push(`${bytes / 1024} KB ${((await time(steps)).ms * 1000).toFixed(1)} us`);
  }
  say(`  ${packedTacticName(tactic, problem.spec.element)} needs ${(needed / 1024).toFixed(1)} KB; with ${times.join(', ')}`);
}

async function benchShape(shape, element) {
  const problem = problemOf(shape, element);
  const buffers = new Map(problem.tensors.map((made) => [made.id, { buffer: upload(storedBytes(made), problem.contents.get(made.id)) }]));
  const { tensor: weights } = problem.spec.b;
  problem.copies = Array.from({ length: Number(flags.copies) - 1 }, () => ({ buffer: upload(storedBytes(weights), problem.contents.get(weights.id)) }));
  const scratch = { buffer: undefined, old: [] };
  const limits = { perBlock: Number(flags['per-block']), perTile: Number(flags['per-tile']), matrix: Number(flags.candidates), lanes: Number(flags.lanes) };
  const ranked = packedTactics(problem.shape, profile, limits);
  const known = new Set(ranked.map((tactic) => packedTacticName(tactic, element)));
  const added = namedTactics(problem.shape).filter(
    (tactic) => !packedReason(tactic, element, profile) && !(tactic.stationary && (!problem.shape.stationary || tactic.bk !== problem.shape.depth)) && !(tactic.slide && problem.shape.depth % tactic.bk !== 0) && problem.shape.depth > tactic.bk * (tactic.splitK - 1) && !known.has(packedTacticName(tactic, element)),
  );
  const tactics = [...ranked, ...added].filter((tactic) => new RegExp(flags.filter).test(packedTacticName(tactic, element)));
  const out = buffers.get(problem.spec.output.tensor.id).buffer;
  const samples = samplesOf(problem).map(([row, column]) => ({ row, column, wanted: problem.expected(row, column) }));
  say(`\n${element} ${shape.label}: ${problem.shape.rows}x${shape.outputs}x${shape.channels * shape.kernel ** 2}, ${(problem.flops / 1e9).toFixed(2)} GFLOP, ${shape.layers} layers`);
  device.pushErrorScope('validation');
  const prepared = await Promise.all(tactics.map((tactic) => prepare(problem, tactic, buffers, scratch).catch((error) => ({ error }))));
  const fault = await device.popErrorScope();
  if (fault) say(`  validation: ${fault.message.split('\n')[0]}`);
  const first = prepared.find(({ steps }) => steps);
  const warmUntil = performance.now() + Number(flags['warm-ms']);
  if (first) while (performance.now() < warmUntil) await batch(first.steps, 20);
  const results = [];
  for (const [i, tactic] of tactics.entries()) {
    const name = packedTacticName(tactic, element);
    const { steps, compileMs, error } = prepared[i];
    if (error) {
      say(`  ${name}: ${String(error.message ?? error).split('\n')[0]}`);
      continue;
    }
    try {
      const { ms, spread } = await time(steps);
      results.push({ name, tactic, ms, spread, steps, compileMs, rank: i + 1, predictedMs: predictPackedNs(problem.shape, tactic) / 1e6 });
    } catch (failure) {
      say(`  ${name}: ${failure.message}`);
    }
    if (performance.now() > deadline) break;
  }
  results.sort((a, b) => a.ms - b.ms);
  for (const result of results) {
    device.queue.submit([((encoder) => (encoder.clearBuffer(out), encoder.finish()))(device.createCommandEncoder())]);
    await batch(result.steps, 1);
    result.error = await errorOf(problem, samples, out);
    const { name, ms, spread, compileMs, rank, predictedMs, error } = result;
    const rate = problem.flops / ms / 1e9;
    say(`  ${(ms * 1000).toFixed(1).padStart(9)} us ${rate.toFixed(1).padStart(7)} T/s  model #${String(rank).padEnd(2)} ${(predictedMs * 1000).toFixed(0).padStart(6)} us  compile ${compileMs.toFixed(0).padStart(5)} ms  ±${(spread * 100).toFixed(0)}%  ${error <= 1 ? 'right' : `WRONG by ${error.toFixed(1)}`}  ${name}`);
    if (flags.json) appendFileSync(flags.json, `${JSON.stringify({ shape: shape.label, element, name, ms, spread, rate, compileMs, rank, predictedMs, error, problem: problem.shape, tactic: result.tactic })}\n`);
  }
  if (flags.memory && tactics.length > 0) await benchMemory(problem, tactics[0], buffers, scratch);
  const earlier = EARLIER.get(`${element} ${shape.label}`);
  const now = results.find(({ error }) => error <= 1);
  const of = (most) => Math.min(...results.filter(({ rank, error }) => rank <= most && error <= 1).map(({ ms }) => ms)) / now?.ms;
  const loss = { first: of(1), eight: of(8) };
  if (earlier && now) say(`  was ${(earlier.ms * 1000).toFixed(1)} us (${earlier.name}), is ${(now.ms * 1000).toFixed(1)} us (${now.name}): ${(earlier.ms / now.ms).toFixed(2)}x`);
  for (const { buffer } of [...buffers.values(), ...problem.copies]) buffer.destroy();
  for (const old of scratch.old) old?.destroy();
  return now && { ...now, loss };
}

const totals = new Map();
let skipped = 0;
for (const element of flags.elements.split(',')) {
  for (const shape of shapesOf()) {
    if (performance.now() > deadline) {
      skipped++;
      continue;
    }
    try {
      const best = await benchShape(shape, element);
      opened.check();
      const key = `${element} ${shape.group}`;
      const total = totals.get(key) ?? { ms: 0, flops: 0, missing: 0, first: [], eight: [] };
      if (best) {
        total.ms += best.ms * shape.layers;
        total.flops += problemFlops(shape) * shape.layers;
        if (Number.isFinite(best.loss.first)) total.first.push(best.loss.first);
        if (Number.isFinite(best.loss.eight)) total.eight.push(best.loss.eight);
      } else total.missing++;
      totals.set(key, total);
    } catch (error) {
      say(`${element} ${shape.label}: ${error.message}`);
    }
  }
}

function problemFlops({ images, height, width, channels, outputs, kernel, stride, pad }) {
  const out = (extent) => Math.floor((extent + 2 * pad - kernel) / stride) + 1;
  return 2 * images * out(height) * out(width) * outputs * kernel * kernel * channels;
}

say('');
const mean = (values) => (values.reduce((all, value) => all + value, 0) / values.length).toFixed(3);
for (const [key, { ms, flops, missing, first, eight }] of totals) {
  say(`${key}: ${ms.toFixed(3)} ms by the best tactics, ${(flops / ms / 1e9).toFixed(1)} T/s${missing ? `, ${missing} shapes without one` : ''}; the model's first takes ${mean(first)} of that on average, the best of its first eight ${mean(eight)}`);
}
if (skipped) say(`${skipped} shapes were left out: the time was up`);
opened.destroy();
