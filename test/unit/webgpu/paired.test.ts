/** Which products become one kernel with the product whose end reads them, and that every device takes it. */
import { describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/backends/webgpu/lower/call.ts';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { type NormalizedRows, normalizedRows } from '../../helpers/normalized-rows.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { expectValidKernels } from '../../helpers/valid-kernels.ts';

const PAIR: NormalizedRows = { op: 'RMSNormalization', rows: 1, depth: 256, columns: [64, 64], bits: 4, block: 32, gated: true };
const NVIDIA = PROFILES['NVIDIA']!;
const products = (shape: Partial<NormalizedRows>, options = {}, profile = NVIDIA): number =>
  lowerGraph(normalizedRows({ ...PAIR, ...shape }).graph, profile, { half: true, ...options }).steps.filter(({ call }) => call.source.label.startsWith('MatMul')).length;

describe('products of which one reads the other', () => {
  it('are one kernel, whose layer has the work and the nodes of both', () => {
    const program = lowerGraph(normalizedRows(PAIR).graph, NVIDIA, { half: true });
    expect(program.steps.map(({ call }) => call.source.label.split(' ')[0])).toEqual(['Neg', 'MatMul']);
    expect(program.layers.at(-1)!.flops).toBeGreaterThan(2 * 2 * 256 * 64);
  });

  it('are two of many rows, without windows, where another reads the value, and where too few tensors can be bound', () => {
    expect(products({ rows: 4 })).toBe(1);
    expect(products({ rows: 5 })).toBe(2);
    expect(products({}, { windows: false })).toBe(2);
    const { graph } = normalizedRows(PAIR, (b, second) => b.node('Softmax', [second], { axis: 1 }, { outputs: ['more'] }));
    expect(lowerGraph(graph, NVIDIA, { half: true }).steps.filter(({ call }) => call.source.label.startsWith('MatMul'))).toHaveLength(2);
    expect(products({ biased: true, zeros: true }, {}, { ...NVIDIA, maxStorageBuffers: 7 })).toBe(2);
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s', { timeout: 60_000 }, async (_, profile) => {
    const calls: KernelCall[] = [];
    for (const op of ['none', 'RMSNormalization', 'LayerNormalization'] as const) {
      lowerGraph(normalizedRows({ ...PAIR, op, rows: 2, biased: true }).graph, profile, {
        half: true,
        choose: (_problem, candidates) => {
          calls.push(...candidates.slice(0, 3).flatMap((candidate) => candidate.kernels()));
          return candidates[0]!;
        },
      });
    }
    expect(calls.length).toBeGreaterThanOrEqual(9);
    await expectValidKernels(calls, profile);
  });
});
