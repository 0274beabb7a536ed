/** Left rows that stay in registers while a workgroup takes tiles side by side: on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import type { PackedSource } from '../../src/backends/webgpu/kernels/packed/spec.ts';
import { stridedParts } from '../../src/backends/webgpu/kernels/packed/stationary.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { packedReason, type PackedElement, type PackedTactic, VECTOR_ELEMENTS } from '../../src/backends/webgpu/tactics/packed.ts';
import { noDevice } from './helpers.ts';
import { fault, tactic } from './packed-checks.ts';
import { convProblem, elements, hold, kernelsOf, matmulProblem, normalizedProblem, pointwiseProblem, type Problem, type ProblemOptions } from './packed-problem.ts';

/** Tiles of 16 × 16 in matrices of 8 rows, unless told otherwise. */
const stationary = ({ spec }: Problem, options: Partial<PackedTactic> = {}): PackedTactic => tactic('emulated', spec.element, { bk: spec.depth, walk: 2, stationary: true, ...options });

/** Two images side by side along the depth, of which the first has `first` channels. */
function joinedProblem(dims: readonly [number, number, number, number], outputs: number, first: number, options: ProblemOptions): Problem {
  const [images, channels, height, width] = dims;
  const problem = pointwiseProblem(dims, outputs, options);
  const lanes = VECTOR_ELEMENTS[options.element];
  const values = elements(options.element, images * channels * height * width, 1);
  const part = (from: number, to: number) =>
    hold([images, to - from, height, width], options.element, 'channels-last', values.filter((_, i) => Math.floor(i / (height * width)) % channels >= from && Math.floor(i / (height * width)) % channels < to));
  const held = [part(0, first), part(first, channels)];
  const parts = held.map(({ tensor }) => {
    const depth = tensor.dims[1]! / lanes;
    const a: PackedSource = { kind: 'matrix', tensor, view: { offset: 0, strides: [0, height * width * depth, width * depth, depth] } };
    return { a, depth };
  });
  return { ...problem, spec: { ...problem.spec, a: { kind: 'joined', parts } }, held: [...held, ...problem.held.slice(1)] };
}

describe.skipIf(noDevice)('rows in registers (skipped without SwiftShader)', () => {
  for (const element of ['f16', 'i8'] as const) {
    const zeroPoint = element === 'i8' ? -7 : 0;
    const kinds: readonly Omit<ProblemOptions, 'element'>[] = [{}, { residual: element }, { residual: 'f16', output: 'f32' }, { grid: { dtype: 'uint8', scale: 0.015, zero: 131 }, residual: 'i8', gain: 10 }];
    it.each(kinds.map((kind) => [JSON.stringify(kind), kind] as const))(`${element} ends %s`, async (_, kind) => {
      // 40 rows: the last tile has a matrix outside. 75 columns: five tiles, shared by workgroups of one, two, three and all; the last one has a tail.
      const problem = pointwiseProblem([2, 64, 4, 5], 75, { element, zeroPoint, ...kind });
      for (const walk of [1, 2, 3, 5, 8]) expect(await fault(problem, stationary(problem, { walk }))).toBeUndefined();
    });

    const tiles: readonly Partial<PackedTactic>[] = [
      { bm: 32, sm: 16, rounds: 2 },
      { bm: 32, sm: 32, sn: 8, rounds: 4 },
      { bm: 8, bn: 32, sn: 32, walk: 3 },
      { bm: 32, sm: 16, bn: 32, sn: 32, matrix: { m: 16, n: 16, k: element === 'f16' ? 16 : 32 }, subgroup: 16 },
      { bm: 16, sm: 8, bn: 48, sn: 48, matrix: { m: 8, n: 16, k: element === 'f16' ? 16 : 32 }, walk: 3 },
    ];
    it.each(tiles.map((options) => [JSON.stringify(options), options] as const))(`${element} tiles of %s`, async (_, options) => {
      const problem = pointwiseProblem([3, 64, 4, 4], 96, { element, zeroPoint, residual: element });
      const ways = [options, ...(element === 'f16' ? [{ ...options, halfSums: true, wide: 8 as const }] : [])];
      for (const way of ways) expect(await fault(problem, stationary(problem, way))).toBeUndefined();
    });

    it(`${element}: parts of a depth from different tensors`, async () => {
      const problem = joinedProblem([2, 96, 4, 4], 40, 32, { element, residual: element });
      expect(stridedParts(problem.spec)?.map(({ depth }) => depth)).toEqual([32 / VECTOR_ELEMENTS[element], 64 / VECTOR_ELEMENTS[element]]);
      for (const walk of [1, 3]) expect(await fault(problem, stationary(problem, { walk }))).toBeUndefined();
    });
  }
});

describe('rows in registers', () => {
  const pointwise = (element: PackedElement = 'f16'): Problem => pointwiseProblem([1, 64, 4, 4], 32, { element, residual: element });

  it('bind everything alike, so that no load is moved behind a store', () => {
    const { calls } = kernelsOf(pointwise(), stationary(pointwise()), PORTABLE_PROFILE);
    expect(calls.map(({ source }) => source.access)).toEqual([['read_ordered', 'read_ordered', 'read_ordered', 'read_ordered', 'read_write']]);
    expect(calls[0]!.source.wgsl).not.toContain('var<storage, read>');
  });

  it('need plain rows, weights, and every tensor once', () => {
    const { spec } = pointwise();
    expect(stridedParts(spec)).toHaveLength(1);
    const a = spec.a as Extract<PackedSource, { kind: 'matrix' }>;
    const others = {
      'a filter of several taps': convProblem({ x: [1, 32, 4, 4], w: [16, 32, 3, 3], strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 }, { element: 'f16' }).spec,
      'activations on both sides': matmulProblem(1, 16, 24, 64, 'rows-k-contiguous', { element: 'f16' }).spec,
      'normalized rows': normalizedProblem(16, 24, 64, true).spec,
      'halves of f32': { ...spec, a: { ...a, split: true } },
      'the image as its own residual': { ...spec, extras: [{ ...spec.extras[0]!, tensor: a.tensor }] },
      'rows that overlap': { ...spec, a: { ...a, view: { ...a.view, strides: [0, 16, 4, 1] } } },
      'rows with gaps between lines': { ...spec, a: { ...a, view: { ...a.view, strides: [0, 256, 64, 8] } } },
    };
    const accepted = Object.entries(others).filter(([, other]) => stridedParts(other) !== undefined);
    expect(accepted.map(([name]) => name)).toEqual([]);
  });

  it.each([
    ['lanes', {}, /as matrices only/],
    ['emulated', { splitK: 2 }, /multiplied whole/],
    ['emulated', { buffers: 2 }, /multiplied whole/],
    ['emulated', { ahead: 2 }, /multiplied whole/],
    ['emulated', { slices: 2 }, /multiplied whole/],
  ] as const)('%s with %o: refused', (engine, options, reason) => {
    expect(packedReason({ ...tactic(engine, 'f16', options), stationary: true }, 'f16', PORTABLE_PROFILE)).toMatch(reason);
  });
});
