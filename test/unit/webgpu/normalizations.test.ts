/** Which normalizations of few rows get no kernel, and that every device takes the kernels that do their work. */
import { describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/backends/webgpu/lower/call.ts';
import type { LowerOptions } from '../../../src/backends/webgpu/lower/context.ts';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { elementCount, type Tensor } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { type NormalizedRows, normalizedRows } from '../../helpers/normalized-rows.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { expectValidKernels } from '../../helpers/valid-kernels.ts';

const ROW: NormalizedRows = { op: 'RMSNormalization', rows: 1, depth: 256, columns: [64, 40], bits: 4, block: 32 };
const NVIDIA = PROFILES['NVIDIA']!;

const labels = (graph: ReturnType<typeof normalizedRows>['graph'], options: LowerOptions = {}, profile = NVIDIA): string[] =>
  lowerGraph(graph, profile, { half: true, ...options }).steps.map(({ call }) => call.source.label.split(' ')[0]!);
const kernels = (shape: Partial<NormalizedRows>, options?: LowerOptions): string[] => labels(normalizedRows({ ...ROW, ...shape }).graph, options);

describe('normalizations of few rows', () => {
  it.each<readonly [string, Partial<NormalizedRows>]>([
    ['of one row', {}],
    ['of four rows', { rows: 4 }],
    ['with a mean', { op: 'LayerNormalization', biased: true }],
  ])('%s have no kernel', (_, shape) => {
    expect(kernels(shape)).toEqual(['Neg', 'MatMul', 'MatMul']);
    expect(kernels(shape, { half: false })).toEqual(['Neg', 'MatMul', 'MatMul']);
  });

  it.each<readonly [string, NormalizedRows, LowerOptions]>([
    ['of five rows', { ...ROW, rows: 5 }, {}],
    ['with a mean, in front of plain weights', { op: 'LayerNormalization', rows: 1, depth: 256, columns: [40] }, { half: false }],
    ['where windows are off', ROW, { windows: false }],
    ['of rows that are no whole vectors', { ...ROW, depth: 252, block: 252, bits: 8 }, {}],
  ])('%s have one', (_, shape, options) => {
    expect(labels(normalizedRows(shape).graph, options)[1]).toBe(shape.op);
  });

  it('in front of so many columns that their sums cost more have one', () => {
    const zeros = (dtype: 'float32' | 'uint8', dims: readonly number[]): Tensor => ({ dtype, dims, data: new Uint8Array(elementCount(dims) * (dtype === 'uint8' ? 1 : 4)) });
    const [depth, columns] = [1024, 50_000];
    const found = [1, 4].map((rows) => {
      const b = newGraphBuilder('head');
      const normalized = b.node('RMSNormalization', [b.input('x', { dtype: 'float32', dims: [rows, depth] }), b.constant(zeros('float32', [depth]))], { axis: -1, epsilon: 1e-5, stash_type: 1 });
      const weights = [zeros('uint8', [depth, columns]), zeros('float32', [1, columns])].map((tensor) => b.constant(tensor));
      b.node('WeightOnlyMatMul', [normalized, ...weights], { bits: 4, block_size: 1024, zeroPoint: 8, alpha: 1, transB: 0, epilogue: { kind: 'input', index: 0, dtype: 'float32' } }, { outputs: ['y'] });
      return labels(b.finish(['y']));
    });
    expect(found).toEqual([['MatMul'], ['RMSNormalization', 'MatMul']]);
  });

  it('that something else reads have one', () => {
    const { graph } = normalizedRows(ROW, (b, normalized) => b.node('Softmax', [normalized], { axis: 1 }, { outputs: ['z'] }));
    expect(labels(graph)).toContain('RMSNormalization');
    expect(labels(normalizedRows(ROW, (_, normalized) => normalized).graph)).toContain('RMSNormalization');
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s', { timeout: 60_000 }, async (_, profile) => {
    const calls: KernelCall[] = [];
    for (const op of ['RMSNormalization', 'LayerNormalization'] as const) {
      const { graph } = normalizedRows({ ...ROW, op, rows: 3, columns: [40], biased: true });
      lowerGraph(graph, profile, {
        half: true,
        choose: (_problem, candidates) => {
          calls.push(...candidates.slice(0, 4).flatMap((candidate) => candidate.kernels()));
          return candidates[0]!;
        },
      });
    }
    expect(calls).toHaveLength(8);
    await expectValidKernels(calls, profile);
  });
});
