/** Products of few rows that normalize them, and pairs of products, on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { type NormalizedRows, normalizedRows } from '../helpers/normalized-rows.ts';
import { distance, noDevice, runGraph } from './helpers.ts';

const PROFILE = { ...PORTABLE_PROFILE, maxWorkgroupBytes: 32768, maxStorageBuffers: 10 };

/** How far the results are from float64, in tolerances; throws where another kernel than `name` was made. */
async function errorOf(shape: NormalizedRows, name: RegExp, { half = false, tolerance = 1e-5 } = {}): Promise<number> {
  const { graph, inputs, expected } = normalizedRows(shape);
  const choose: TacticChooser = (problem, candidates) => {
    const found = candidates.find((candidate) => name.test(candidate.name));
    const made = JSON.stringify(problem);
    if (!found || made.includes('normalized') !== (shape.op !== 'none') || made.includes('paired') !== (shape.gated ?? false)) throw new Error(`${JSON.stringify(problem)}: ${candidates.map((candidate) => candidate.name).join(', ')}`);
    return found;
  };
  const outputs = await runGraph(graph, inputs, PROFILE, { half, choose });
  const errors = Object.entries(expected).map(([output, values]) => distance(outputs[output]!, values, { absolute: tolerance * Math.max(...values.map(Math.abs)), relative: 0 }));
  return Math.max(...errors);
}

const SHAPES: Readonly<Record<string, NormalizedRows>> = {
  'of one row by two matrices of 4 bits': { op: 'RMSNormalization', rows: 1, depth: 192, columns: [40, 24], bits: 4, block: 32 },
  'of three rows and odd columns, with a bias': { op: 'RMSNormalization', rows: 3, depth: 208, columns: [13], bits: 4, block: 16, biased: true, zeros: true },
  'of a depth that ends within a run, 8 bits': { op: 'RMSNormalization', rows: 2, depth: 72, columns: [20], bits: 8 },
  'by plain weights': { op: 'RMSNormalization', rows: 2, depth: 136, columns: [24, 9], biased: true },
  'and their mean': { op: 'LayerNormalization', rows: 1, depth: 192, columns: [40, 24], bits: 4, block: 32 },
  'and their mean, of four rows with zero points and a bias': { op: 'LayerNormalization', rows: 4, depth: 96, columns: [19], bits: 8, block: 32, zeros: true, biased: true },
};

const PAIRS: Readonly<Record<string, NormalizedRows>> = {
  'of one row': { op: 'none', rows: 1, depth: 192, columns: [96, 96], bits: 4, block: 32, gated: true },
  'of odd columns, with biases and zero points of the one': { op: 'none', rows: 3, depth: 64, columns: [13, 13], bits: 4, block: 16, gated: true, zeros: true, biased: true },
  'of a row that they normalize': { op: 'RMSNormalization', rows: 1, depth: 128, columns: [40, 40], bits: 4, block: 32, gated: true },
  'of rows that they normalize, less their mean': { op: 'LayerNormalization', rows: 2, depth: 96, columns: [22, 22], bits: 8, block: 32, gated: true, biased: true },
};

describe.skipIf(noDevice)('products of few rows (skipped without SwiftShader)', () => {
  it.each(Object.entries(PAIRS))('in pairs, %s', async (_, shape) => {
    for (const name of [/^rows \d 4x/, /^rows \d 16x/, /^rows \d 64x/]) {
      expect(await errorOf(shape, name)).toBeLessThan(1);
      expect(await errorOf(shape, name, { half: true, tolerance: 2e-3 })).toBeLessThan(1);
    }
  });

  it.each(Object.entries(SHAPES))('%s', async (_, shape) => {
    for (const name of [/^rows \d 4x/, /^rows \d 16x/, /^rows \d 64x/]) {
      expect(await errorOf(shape, name)).toBeLessThan(1);
      if (shape.bits) expect(await errorOf(shape, name, { half: true, tolerance: 2e-3 })).toBeLessThan(1);
    }
  });
});
