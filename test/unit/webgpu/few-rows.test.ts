/** Kernels of few rows for devices of several vendors: within their limits, valid WGSL on Dawn's null backend, the likeliest first. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/backends/webgpu/lower/call.ts';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { FEW_ROWS, fewRowsInvocations, fewRowsName, type FewRowsShape, fewRowsTactics, rowsAtOnce } from '../../../src/backends/webgpu/tactics/few-rows.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { expectValidKernels } from '../../helpers/valid-kernels.ts';

const NVIDIA = PROFILES['NVIDIA']!;
/** 4 bits in blocks of 32. */
const fourBits = (rows: number, columns: number, depth: number): FewRowsShape => ({ rows, columns, vectors: depth / 8, blockVectors: 4, vectorRegisters: 4, vectorWeights: 32, unpacking: 6, normalizes: false });

function product(rows: number, bits: 4 | undefined): Graph {
  const [depth, columns] = [256, 72];
  const graph = newGraphBuilder('product');
  const x = graph.node('Neg', [graph.input('x', { dtype: 'float32', dims: [rows, depth] })], {});
  const plain = graph.constant(fromNumbers('float32', [depth, columns], new Float32Array(depth * columns).fill(0.5)));
  if (!bits) return graph.finish([graph.node('MatMul', [x, plain], {}, { outputs: ['y'] })]);
  const operands = [fromNumbers('uint8', [depth, columns], new Uint8Array(depth * columns)), fromNumbers('float32', [depth / 32, columns], new Float32Array((depth / 32) * columns).fill(0.5))].map((tensor) => graph.constant(tensor));
  return graph.finish([graph.node('WeightOnlyMatMul', [x, ...operands], { bits, block_size: 32, zeroPoint: 8, alpha: 1, transB: 0, epilogue: { kind: 'input', index: 0, dtype: 'float32' } }, { outputs: ['y'] })]);
}

describe('tactics of few rows', () => {
  it('fit the limits of a device, have names of their own, and leave no row out', () => {
    const shape = fc.record({ rows: fc.integer({ min: 1, max: 2 * FEW_ROWS }), columns: fc.integer({ min: 1, max: 20_000 }), vectors: fc.integer({ min: 1, max: 3000 }), blockVectors: fc.constantFrom(1, 2, 3, 4, 16), vectorRegisters: fc.constantFrom(4, 8, 16), vectorWeights: fc.constantFrom(16, 32), unpacking: fc.constantFrom(1, 2, 6), normalizes: fc.boolean() });
    fc.assert(
      fc.property(shape, fc.constantFrom(...Object.values(PROFILES)), fc.integer({ min: 128, max: 1024 }), (given, profile, maxInvocations) => {
        const device = { ...profile, maxInvocations };
        const tactics = fewRowsTactics(given, device);
        expect(tactics.length > 0).toBe(given.rows <= FEW_ROWS);
        expect(new Set(tactics.map(fewRowsName)).size).toBe(tactics.length);
        for (const tactic of tactics) {
          expect(fewRowsInvocations(tactic)).toBeLessThanOrEqual(maxInvocations);
          expect(rowsAtOnce(tactic, device, given.normalizes) * tactic.lanes * tactic.slices * 16 + (given.normalizes ? tactic.rows * tactic.slices * 8 : 0)).toBeLessThanOrEqual(device.maxWorkgroupBytes);
          expect(rowsAtOnce(tactic, device, given.normalizes)).toBeGreaterThan(0);
          expect(given.blockVectors % tactic.run).toBe(0);
        }
      }),
    );
  });

  // The fastest of all that were measured on an H200 (docs/performance.md).
  it.each([
    [1, 4096, 4096, 'rows 1 8x128 /4'],
    [2, 4096, 4096, 'rows 2 8x128 /4'],
    [4, 4096, 4096, 'rows 4 8x64 /2'],
    [1, 11_008, 4096, 'rows 1 8x64 /4'],
    [1, 4096, 11_008, 'rows 1 8x128 /4'],
    // Those of a decoder of 896 columns.
    [1, 1152, 896, 'rows 1 4x128 /1'],
    [1, 896, 896, 'rows 1 4x128 /1'],
    [1, 9728, 896, 'rows 1 4x64 /1'],
    [1, 896, 4864, 'rows 1 4x256 /2'],
    [1, 32_000, 896, 'rows 1 64x16 /4'],
  ] as const)('put the fastest first: %i × %i × %i', (rows, columns, depth, name) => {
    expect(fewRowsName(fewRowsTactics(fourBits(rows, columns, depth), NVIDIA)[0]!)).toBe(name);
  });
});

describe('kernels of few rows', () => {
  it.each(Object.entries(PROFILES))('are valid WGSL for %s', { timeout: 60_000 }, async (_, profile) => {
    const calls: KernelCall[] = [];
    for (const bits of [4, undefined] as const) {
      for (const half of [false, true]) {
        lowerGraph(product(3, bits), profile, {
          half,
          choose: (_problem, candidates) => {
            calls.push(...candidates.filter(({ name }) => name.startsWith('rows ')).slice(0, 4).flatMap((candidate) => candidate.kernels()));
            return candidates[0]!;
          },
        });
      }
    }
    expect(calls).toHaveLength(16);
    await expectValidKernels(calls, profile);
  });
});
