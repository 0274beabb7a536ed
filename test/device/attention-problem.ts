/** Problems for the attention kernel: memory, specification and the float64 answer, from one description. */
import { attentionKernels } from '../../src/backends/webgpu/kernels/attention/kernel.ts';
import { type AttentionOperand, attentionProblemOf, type AttentionSpec } from '../../src/backends/webgpu/kernels/attention/spec.ts';
import type { KernelCall } from '../../src/backends/webgpu/lower/call.ts';
import type { DeviceProfile } from '../../src/backends/webgpu/profile.ts';
import type { AttentionProblem, AttentionTactic } from '../../src/backends/webgpu/tactics/attention.ts';
import { float16ToNumber, numberToFloat16 } from '../../src/ir/tensor.ts';
import { broadcastView } from '../../src/backends/webgpu/lower/tensor.ts';
import { noise } from './helpers.ts';
import { type Held, hold, readHeld, runCalls } from './packed-problem.ts';

export interface AttentionCase {
  readonly element: 'f16' | 'f32';
  readonly batch?: number;
  /** Of keys and values; `sharing` heads of queries (1) read each. */
  readonly heads: number;
  readonly sharing?: number;
  /** Positions of queries. */
  readonly rows: number;
  readonly length: number;
  readonly depth: number;
  readonly depthV?: number;
  /** Dims that broadcast to [batch, heads of queries, rows, length], with a value by flat index. */
  readonly mask?: { readonly dims: readonly number[]; readonly storage?: 'f16' | 'f32'; value(i: number): number };
  readonly softcap?: number;
  readonly zeroEmptyRows?: boolean;
  /** Multiplies queries: large scores, so that maxima grow from block to block. */
  readonly gain?: number;
  readonly output?: 'f16' | 'f32';
  /** What the operands are stored as, if not as what is multiplied. */
  readonly storage?: 'f32';
  /** Queries, keys and values as parts of one projection [batch, position, part, head, d]. */
  readonly joined?: boolean;
}

export interface AttentionTest {
  readonly spec: AttentionSpec;
  readonly problem: AttentionProblem;
  readonly held: readonly Held[];
  readonly expected: readonly number[];
}

export function attentionProblem(given: AttentionCase): AttentionTest {
  const { element, batch = 1, heads, sharing = 1, rows, length, depth, depthV = depth, gain = 1, output = element, joined = false, storage = element, softcap = 0, zeroEmptyRows = false } = given;
  const queryHeads = heads * sharing;
  const round = (value: number): number => (element === 'f16' ? float16ToNumber(numberToFloat16(value)) : value);
  const make = (of: number, extent: number, d: number, seed: number, factor = 1): number[] => Array.from(noise(batch * of * extent * d, seed), (x) => x * factor);
  const [q, k, v] = [make(queryHeads, rows, depth, 1, gain), make(heads, length, depth, 2), make(heads, length, depthV, 3)];
  const held: Held[] = [];
  const keep = (one: Held): Held => {
    held.push(one);
    return one;
  };
  /** [batch, head, row, d] stored as [batch, row, head, d], which is how projections give it. */
  const operand = (values: readonly number[], of: number, extent: number, d: number): AttentionOperand => {
    const { tensor } = keep(hold([batch, extent, of, d], storage, 'linear', transposed(values, batch, of, extent, d)));
    return { tensor, view: { offset: 0, strides: [extent * of * d, d, of * d, 1] } };
  };
  let operands: readonly [AttentionOperand, AttentionOperand, AttentionOperand];
  if (joined) {
    const parts = [q, k, v].map((values) => transposed(values, batch, heads, length, depth));
    const width = heads * depth;
    const values = Array.from({ length: batch * length * 3 * width }, (_, i) => parts[Math.floor(i / width) % 3]![Math.floor(i / width / 3) * width + (i % width)]!);
    const { tensor } = keep(hold([batch, length, 3, heads, depth], storage, 'linear', values));
    operands = [0, 1, 2].map((part) => ({ tensor, view: { offset: part * width, strides: [length * 3 * width, depth, 3 * width, 1] } })) as never;
  } else operands = [operand(q, queryHeads, rows, depth), operand(k, heads, length, depth), operand(v, heads, length, depthV)];
  const full = [batch, queryHeads, rows, length];
  const mask = given.mask && keep(hold([...given.mask.dims], given.mask.storage ?? 'f32', 'linear', Array.from({ length: given.mask.dims.reduce((a, b) => a * b, 1) }, (_, i) => given.mask!.value(i))));
  const maskView = mask && broadcastView(mask.tensor, full);
  const maskAt = (at: readonly number[]): number => (given.mask && maskView ? given.mask.value(at.reduce((sum, c, axis) => sum + c * maskView.strides[axis]!, 0)) : 0);
  const out = keep(hold([batch, rows, queryHeads, depthV], output, 'linear'));
  const scale = 1 / Math.sqrt(depth);
  const spec: AttentionSpec = {
    batch, heads, sharing, rows: sharing * rows, length, depth, depthV, scale, softcap, zeroEmptyRows, element,
    q: operands[0],
    k: operands[1],
    v: operands[2],
    mask: mask && { tensor: mask.tensor, view: maskView! },
    output: { tensor: out.tensor, view: { offset: 0, strides: [rows * queryHeads * depthV, depthV, queryHeads * depthV, 1] } },
    end: undefined,
  };
  const expected = transposed(reference(spec, q.map(round), k.map(round), v.map(round), maskAt), batch, queryHeads, rows, depthV);
  return { spec, problem: attentionProblemOf(spec), held, expected };
}

/** [batch, head, row, d] to [batch, row, head, d]. */
function transposed(values: readonly number[], batch: number, heads: number, rows: number, d: number): number[] {
  return Array.from({ length: batch * heads * rows * d }, (_, i) => {
    const [b, row, head, at] = [Math.floor(i / (d * heads * rows)), Math.floor(i / (d * heads)) % rows, Math.floor(i / d) % heads, i % d];
    return values[((b * heads + head) * rows + row) * d + at]!;
  });
}

/** By [batch, head of queries, position, d]. */
function reference(spec: AttentionSpec, q: readonly number[], k: readonly number[], v: readonly number[], maskAt: (at: readonly number[]) => number): number[] {
  const { batch, heads, sharing, length, depth, depthV, scale, softcap, zeroEmptyRows } = spec;
  const [queryHeads, rows] = [heads * sharing, spec.rows / sharing];
  const bent = (score: number): number => (softcap === 0 ? score : softcap * Math.tanh(score / softcap));
  const result: number[] = [];
  for (let head = 0; head < batch * queryHeads; head++) {
    const own = Math.floor(head / sharing);
    for (let row = 0; row < rows; row++) {
      const scores = Array.from({ length }, (_, key) => {
        let dot = 0;
        for (let d = 0; d < depth; d++) dot += q[(head * rows + row) * depth + d]! * k[(own * length + key) * depth + d]!;
        return bent(dot * scale) + maskAt([Math.floor(head / queryHeads), head % queryHeads, row, key]);
      });
      const most = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const sum = weights.reduce((a, b) => a + b, 0);
      const isEmpty = zeroEmptyRows && Number.isNaN(sum);
      for (let d = 0; d < depthV; d++) result.push(isEmpty ? 0 : weights.reduce((total, weight, key) => total + (weight / sum) * v[(own * length + key) * depthV + d]!, 0));
    }
  }
  return result;
}

/** The kernels, and all memory that they need. */
export function attentionCalls({ spec, held }: AttentionTest, tactic: AttentionTactic, profile: DeviceProfile): { readonly calls: readonly KernelCall[]; readonly held: readonly Held[] } {
  const scratch: Held[] = [];
  const calls = attentionKernels(spec, tactic, profile, (elements) => {
    const made = hold([elements], 'f32', 'linear');
    scratch.push(made);
    return made.tensor;
  });
  return { calls, held: [...held, ...scratch] };
}

/** The largest difference to the float64 answer; infinite where one is NaN and the other is not. */
export async function attentionError(device: GPUDevice, test: AttentionTest, tactic: AttentionTactic, profile: DeviceProfile): Promise<number> {
  const { spec, expected } = test;
  const { calls, held } = attentionCalls(test, tactic, profile);
  const bytes = await runCalls(device, calls, held, spec.output.tensor);
  const { values } = readHeld(spec.output.tensor, bytes);
  return values.reduce((worst, value, i) => {
    if (Number.isNaN(value) || Number.isNaN(expected[i]!)) return Number.isNaN(value) === Number.isNaN(expected[i]!) ? worst : Number.POSITIVE_INFINITY;
    return Math.max(worst, Math.abs(value - expected[i]!));
  }, 0);
}
