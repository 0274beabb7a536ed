/**
 * Times of the attention kernel: every tactic that the model ranks, warmed up and checked, for heads that lie in one projection of queries, keys and
 * values as transformers have them.
 *
 *     npm run build && node bench/attention.mjs --shapes 32x12x197x64,1x12x197x64
 *     node bench/attention.mjs --shapes 32x12x128x64 --masked --also '32x32 1x1,64x48 2x1'
 *     node bench/attention.mjs --shapes 1x2x7x64x1024,1x12x1x64x1024 --also '16x64 1x4 /8'
 *
 * A shape is BATCHxHEADSxROWSxDEPTH, or BATCHxHEADSxROWSxDEPTHxKEYS for the first rows alone, as a decoder has them. --masked adds a mask by key, --also adds tiles (queries × keys, subgroups down × across, spans of keys) where they are legal. One
 * line per tactic, fastest first: time of its dispatches in a row of many, rank and prediction of the model, the worst of sampled results
 * against float64 in steps that rounding explains (1 is right). At the end stands what an untuned build loses.
 */
import { parseArgs } from 'node:util';
import { attentionKernels } from '../dist/src/backends/webgpu/kernels/attention/kernel.js';
import { attentionProblemOf } from '../dist/src/backends/webgpu/kernels/attention/spec.js';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { storedBytes } from '../dist/src/backends/webgpu/lower/tensor.js';
import { USAGE } from '../dist/src/backends/webgpu/resources.js';
import { attentionReason, attentionTacticName, attentionTactics, predictAttentionNs } from '../dist/src/backends/webgpu/tactics/attention.js';
import { float16ToNumber, numberToFloat16 } from '../dist/src/ir/tensor.js';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: '32x12x197x64,1x12x197x64,32x12x128x64,1x12x128x64' },
    masked: { type: 'boolean', default: false },
    also: { type: 'string', default: '' },
    device: { type: 'string' },
    'warm-ms': { type: 'string', default: '500' },
    'batch-ms': { type: 'string', default: '6' },
  },
});
const open = await chooseDevice({ wanted: flags.device, unchecked: true });
const { device, profile } = open;
const say = (line) => process.stdout.write(`${line}\n`);

let seed = 1;
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 31 - 1;
};

function bufferOf(bytes, contents) {
  const buffer = device.createBuffer({ size: bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst });
  if (contents) device.queue.writeBuffer(buffer, 0, contents);
  return buffer;
}

function specOf(batch, heads, rows, depth, length) {
  const width = heads * depth;
  const joined = { id: 0, dtype: 'float16', dims: [batch, length, 3, heads, depth], storage: 'f16', layout: 'linear' };
  const output = { id: 1, dtype: 'float16', dims: [batch, rows, heads, depth], storage: 'f16', layout: 'linear' };
  const mask = { id: 2, dtype: 'float32', dims: [batch, 1, 1, length], storage: 'f32', layout: 'linear' };
  const part = (at) => ({ tensor: joined, view: { offset: at * width, strides: [length * 3 * width, depth, 3 * width, 1] } });
  return {
    batch, heads, sharing: 1, rows, length, depth, depthV: depth, scale: 1 / Math.sqrt(depth), softcap: 0, zeroEmptyRows: false, element: 'f16', q: part(0), k: part(1), v: part(2),
    mask: flags.masked ? { tensor: mask, view: { offset: 0, strides: [length, 0, 0, 1] } } : undefined,
    output: { tensor: output, view: { offset: 0, strides: [rows * width, depth, width, 1] } },
  };
}

function contentsOf({ q, mask }) {
  const halves = new Uint16Array(storedBytes(q.tensor) / 2);
  for (let i = 0; i < halves.length; i++) halves[i] = numberToFloat16(2 * random());
  return new Map([[0, halves], ...(mask ? [[2, Float32Array.from({ length: storedBytes(mask.tensor) / 4 }, (_, i) => (i % 11 === 10 ? -10_000 : 0))]] : [])]);
}

/** One result in float64. */
function expectedAt({ heads, length, depth, scale }, contents, [image, row, head, d]) {
  const element = (part, at, e) => float16ToNumber(contents.get(0)[(((image * length + at) * 3 + part) * heads + head) * depth + e]);
  const scores = Array.from({ length }, (_, key) => {
    let dot = contents.has(2) ? contents.get(2)[image * length + key] / scale : 0;
    for (let e = 0; e < depth; e++) dot += element(0, row, e) * element(1, key, e);
    return dot * scale;
  });
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const sum = weights.reduce((a, b) => a + b);
  return weights.reduce((total, weight, key) => total + (weight / sum) * element(2, key, d), 0);
}

/** Tiles by name, of the engine and the matrices that the model's first tactic has. */
function named([first]) {
  return flags.also.split(',').filter(Boolean).map((text) => {
    const [bq, bk, down, across, splits = 1] = text.trim().split(/[x /]+/).map(Number);
    return { ...first, bq, bk, down, across, splits };
  });
}

async function batch({ kernels }, repeats) {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < repeats; i++) {
    for (const { pipeline, group, workgroups } of kernels) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
  }
  pass.end();
  const commands = encoder.finish();
  const start = performance.now();
  device.queue.submit([commands]);
  open.submitted?.();
  await device.queue.onSubmittedWorkDone();
  open.answered?.();
  return performance.now() - start;
}

async function microseconds(step) {
  const once = (await batch(step, 4)) / 4;
  const repeats = Math.max(20, Math.min(2000, Math.ceil(Number(flags['batch-ms']) / once)));
  const times = [];
  for (let i = 0; i < 3; i++) times.push((await batch(step, repeats)) / repeats);
  return Math.min(...times) * 1000;
}

async function errorOf(samples, output) {
  const copy = device.createBuffer({ size: samples.length * 4, usage: USAGE.mapRead | USAGE.copyDst });
  const encoder = device.createCommandEncoder();
  for (const [i, { at }] of samples.entries()) encoder.copyBufferToBuffer(output, Math.floor(at / 2) * 4, copy, i * 4, 4);
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(USAGE.mapRead);
  const halves = new Uint16Array(copy.getMappedRange().slice(0));
  copy.destroy();
  return Math.max(...samples.map(({ at, wanted }, i) => Math.abs(float16ToNumber(halves[i * 2 + (at % 2)]) - wanted) / 2e-3));
}

/** What a tactic dispatches; undefined, and a line, where it is not legal. */
async function compiled(spec, problem, tactic, i, buffers) {
  const reason = attentionReason(problem, tactic, profile);
  if (reason) return void say(`  ${attentionTacticName(tactic)}: ${reason}`);
  const scratch = [];
  const calls = attentionKernels(spec, tactic, profile, (elements) => {
    const partials = { id: 3 + i, dtype: 'float32', dims: [elements], storage: 'f32', layout: 'linear' };
    scratch.push(partials);
    return partials;
  });
  for (const tensor of scratch) buffers.set(tensor.id, bufferOf(storedBytes(tensor)));
  const kernels = await Promise.all(calls.map(async ({ source, operands, workgroups }) => {
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module: device.createShaderModule({ code: source.wgsl }), entryPoint: 'main' } });
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: operands.map(({ id }, binding) => ({ binding, resource: { buffer: buffers.get(id) } })) });
    return { pipeline, group, workgroups };
  }));
  return { rank: i + 1, tactic, kernels };
}

async function benchShape(text) {
  const [images, heads, rows, depth, length = rows] = text.split('x').map(Number);
  if (rows > length) throw new Error(`${text}: more rows than keys`);
  const spec = specOf(images, heads, rows, depth, length);
  const problem = attentionProblemOf(spec);
  const contents = contentsOf(spec);
  const tensors = [spec.q.tensor, spec.output.tensor, ...(spec.mask ? [spec.mask.tensor] : [])];
  const buffers = new Map(tensors.map((tensor) => [tensor.id, bufferOf(storedBytes(tensor), contents.get(tensor.id))]));
  const samples = Array.from({ length: 24 }, () => {
    const place = [images, rows, heads, depth].map((extent) => Math.floor(((random() + 1) / 2) * extent));
    return { at: place.reduce((sum, c, i) => sum * [images, rows, heads, depth][i] + c, 0), wanted: expectedAt(spec, contents, place) };
  });
  const ranked = attentionTactics(problem, profile);
  const known = new Set(ranked.map(attentionTacticName));
  const tactics = [...ranked, ...named(ranked).filter((tactic) => !known.has(attentionTacticName(tactic)))];
  say(`\n${text}${flags.masked ? ', masked' : ''}: ${((4 * images * heads * rows * length * depth) / 1e9).toFixed(2)} GFLOP`);
  // All are compiled before any is timed: a device that waits for a compiler sleeps, and takes long to be at its clock again.
  const steps = (await Promise.all(tactics.map((tactic, i) => compiled(spec, problem, tactic, i, buffers)))).filter(Boolean);
  for (const until = performance.now() + Number(flags['warm-ms']); performance.now() < until;) await batch(steps[0], 20);
  const results = [];
  for (const { rank, tactic, kernels } of steps) {
    const us = await microseconds({ kernels });
    const predicted = predictAttentionNs(problem, tactic, profile) / 1000;
    results.push({ name: attentionTacticName(tactic), us, rank, predicted, error: await errorOf(samples, buffers.get(spec.output.tensor.id)) });
  }
  const first = results[0];
  results.sort((a, b) => a.us - b.us);
  for (const { name, us, rank, predicted, error } of results) {
    say(`  ${us.toFixed(1).padStart(8)} us  model #${String(rank).padEnd(2)} ${predicted.toFixed(0).padStart(5)} us  ${error <= 1 ? 'right' : `WRONG by ${error.toFixed(1)}`}  ${name}`);
  }
  if (first) say(`  untuned takes ${(first.us / results[0].us).toFixed(3)} of the best`);
  for (const buffer of buffers.values()) buffer.destroy();
}

say(open.info.description);
for (const shape of flags.shapes.split(',')) await benchShape(shape);
open.check();
open.destroy();
