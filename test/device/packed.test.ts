/** The packed matrix kernel on SwiftShader against float64: loaders, engines, epilogues, splits. */
import { describe, expect, it } from 'vitest';
import type { PackedImage } from '../../src/backends/webgpu/kernels/packed/spec.ts';
import type { PackedEngine, PackedTactic } from '../../src/backends/webgpu/tactics/packed.ts';
import { leavesRowSums, packedTacticName } from '../../src/backends/webgpu/tactics/packed.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { noDevice, testDevice } from './helpers.ts';
import { driftOf, fault, tactic } from './packed-checks.ts';
import { convProblem, fewBitsProblem, kernelsOf, matmulProblem, normalizedProblem, pointwiseProblem, type ProblemOptions, readHeld, rowSumsOf, runCalls, runKernels, scaledProblem, stemProblem, summedProblem } from './packed-problem.ts';
import type { ConvCase } from './references.ts';

const base = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };

/** Each names what it is there for; tiles are 16 × 16 with blocks of two vectors. */
const CONVS: Readonly<Record<string, ConvCase>> = {
  'pointwise, whole tiles': { ...base, x: [1, 32, 4, 4], w: [16, 32, 1, 1] },
  'pointwise with stride, tails in rows and columns': { ...base, x: [2, 16, 5, 5], w: [21, 16, 1, 1], strides: [2, 2] },
  '3x3, pads, channels that need padding': { ...base, x: [1, 5, 5, 6], w: [18, 5, 3, 3], pads: [1, 1, 1, 1] },
  '3x3, a block in one tap': { ...base, x: [2, 32, 4, 3], w: [8, 32, 3, 3], pads: [1, 0, 1, 2], strides: [1, 2] },
  'dilation': { ...base, x: [1, 16, 7, 7], w: [8, 16, 3, 3], pads: [2, 2, 2, 2], dilations: [2, 2] },
  'groups': { ...base, x: [1, 32, 4, 4], w: [32, 16, 3, 3], group: 2, pads: [1, 1, 1, 1] },
  'more taps than a mask has bits': { ...base, x: [1, 8, 8, 8], w: [8, 8, 6, 6], pads: [3, 3, 3, 3], strides: [2, 2] },
  '1-D': { x: [2, 16, 11], w: [8, 16, 3], strides: [2], pads: [1, 1], dilations: [1], group: 1 },
  '3-D': { x: [1, 8, 3, 3, 4], w: [8, 8, 2, 2, 2], strides: [1, 1, 1], pads: [0, 0, 0, 1, 1, 1], dilations: [1, 1, 1], group: 1 },
};

describe.skipIf(noDevice)('packed kernel (skipped without SwiftShader)', () => {
  for (const element of ['f16', 'i8'] as const) {
    const zeroPoint = element === 'i8' ? -7 : 0;
    for (const engine of ['lanes', 'emulated'] as const) {
      it.each(Object.entries(CONVS))(`${element} ${engine}: %s`, async (_, test) => {
        expect(await fault(convProblem(test, { element, zeroPoint }), tactic(engine, element))).toBeUndefined();
      });
    }

    const test: ConvCase = { ...base, x: [1, 32, 5, 5], w: [21, 32, 3, 3], pads: [1, 1, 1, 1] };
    const variants: readonly (readonly [PackedEngine, Partial<PackedTactic>])[] = [
      ['lanes', { splitK: 3 }],
      ['lanes', { slices: 2 }],
      ['lanes', { buffers: 2, bm: 8, bn: 32, sm: 1, sn: 8, bk: 4 }],
      ['lanes', { bm: 32, bn: 16, sm: 4, sn: 8, bk: 1, rounds: 2 }],
      ['emulated', { splitK: 4, sm: 16, sn: 8, rounds: 2 }],
      ['emulated', { slices: 2, sm: 16, bk: 4 }],
      ['emulated', { buffers: 2, slices: 2, splitK: 2, sn: 8, bk: 4 }],
      ['emulated', { bm: 32, sm: 32, subgroup: 16, bn: 32, matrix: { m: 16, n: 16, k: 32 }, bk: 4, rounds: 2 }],
      ['lanes', { ahead: 2, wide: 8 }],
      ['emulated', { ahead: 2, slices: 2, bk: 4, wide: 16 }],
      ['emulated', { ahead: 2, splitK: 3, wide: 16, bn: 32, rounds: 1 }],
      ['emulated', { ahead: 4, bk: 2 }],
      ['lanes', { ahead: 3, bk: 2, splitK: 2 }],
      ['emulated', { buffers: 2 }],
      ['emulated', { bn: 48, sn: 48 }],
      ['emulated', { bm: 48, sm: 16, bn: 32, sn: 16, bk: 3 }],
      ['emulated', { matrix: { m: 8, n: 16, k: element === 'f16' ? 16 : 32 } }],
    ];
    it.each(variants.map(([engine, options]) => [packedTacticName(tactic(engine, element, options), element), engine, options] as const))(
      `${element} %s`,
      async (_, engine, options) => {
        expect(await fault(convProblem(test, { element, zeroPoint, residual: element }), tactic(engine, element, options))).toBeUndefined();
      },
    );

    it.each([
      ['lanes', { bm: 32, bn: 16, sm: 4, sn: 8, bk: 1, rounds: 2 }],
      ['lanes', { walk: 3 }],
      ['emulated', { bm: 32, sm: 16, bn: 32, rounds: 2 }],
      ['emulated', { bm: 32, sm: 16, bn: 32, rounds: 2, walk: 2 }],
      ['emulated', { walk: 3, buffers: 2 }],
      ['emulated', { walk: 5, slices: 2, bk: 4 }],
      ['emulated', { bm: 32, sm: 16, bn: 32, rounds: 2, wide: 8 }],
    ] as const)(`${element} workgroups that take several tiles, ends in rounds: %s %o`, async (engine, options) => {
      for (const conv of [test, { ...base, x: [2, 32, 3, 3], w: [32, 32, 1, 1] }, { ...base, x: [5, 16, 4, 4], w: [40, 16, 1, 1] }]) {
        for (const residual of [{ residual: element }, {}]) {
          expect(await fault(convProblem(conv, { element, zeroPoint, ...residual }), tactic(engine, element, options))).toBeUndefined();
        }
      }
    });

    it.each([{}, { walk: 2 }, { walk: 2, bk: 4 }, { walk: 3, buffers: 2, bm: 32 }] as const)(`${element} parts of a depth, one tile or several: %o`, async (options) => {
      const whole = convProblem({ ...base, x: [3, 64, 4, 4], w: [24, 64, 1, 1] }, { element });
      const image = whole.spec.a as PackedImage;
      // A border that no block ends at.
      const parts = [{ from: 0, to: 1 }, { from: 1, to: image.channels }].map(({ from, to }) => ({ a: { ...image, offset: from, channels: to - from }, depth: to - from }));
      expect(await fault({ ...whole, spec: { ...whole.spec, a: { kind: 'joined', parts } } }, tactic('emulated', element, options))).toBeUndefined();
    });

    const outputs: readonly Omit<ProblemOptions, 'element'>[] = [
      { output: 'f32', bias: false },
      { output: 'f32', residual: 'f16' },
      { output: 'f16', residual: 'f32' },
      { output: 'f16', residual: 'i8', gain: 1e5 },
      { output: 'i8', residual: 'f16' },
      { output: 'i8', residual: 'i8', gain: 10, zeroPoint: 9 },
      { grid: { dtype: 'uint8', scale: 0.02, zero: 0 } },
      { grid: { dtype: 'uint8', scale: 0.015, zero: 131 }, residual: 'f16' },
      { grid: { dtype: 'int8', scale: 0.02, zero: -13 }, residual: 'i8', gain: 10 },
      { grid: { dtype: 'uint8', scale: 0.05, zero: 7 }, gelu: true, gain: 4 },
    ];
    it.each(outputs.map((options) => [JSON.stringify(options), options] as const))(`${element} ends %s`, async (_, options) => {
      const small: ConvCase = { ...base, x: [2, 16, 3, 3], w: [21, 16, 1, 1] };
      expect(await fault(convProblem(small, { element, ...options }), tactic('lanes', element, { wide: 16 }))).toBeUndefined();
      expect(await fault(convProblem(small, { element, ...options }), tactic('emulated', element, { splitK: 2, bk: 1 }))).toBeUndefined();
    });
  }

  it.each([{ bk: 1 }, { bk: 1, walk: 2 }] as const)('so many rows of halves that workgroups with the same rows begin at different blocks: %o', async (options) => {
    const problem = convProblem({ ...base, x: [1, 64, 64, 64], w: [24, 64, 1, 1] }, { element: 'f16' });
    const large = tactic('emulated', 'f16', { bm: 64, sm: 32, bn: 16, rounds: 2, ...options });
    expect(kernelsOf(problem, large, PORTABLE_PROFILE).calls[0]!.source.wgsl).toMatch(/let k_shift = .*\+ place % 2u/);
    expect(await fault(problem, large)).toBeUndefined();
  });

  describe('sums of halves', () => {
    const test: ConvCase = { ...base, x: [1, 32, 5, 5], w: [21, 32, 3, 3], pads: [1, 1, 1, 1] };
    const halves = (options: Partial<PackedTactic>): PackedTactic => tactic('emulated', 'f16', { halfSums: true, wide: 8, ...options });
    const variants: readonly Partial<PackedTactic>[] = [
      {},
      { wide: 4 },
      { splitK: 4, sm: 16, sn: 8, rounds: 2 },
      { slices: 2, sm: 16, bk: 4 },
      { buffers: 2, bm: 32, sm: 16, bn: 32, rounds: 2 },
      { walk: 3 },
      { ahead: 2, slices: 2, bk: 4 },
      { bm: 32, sm: 32, subgroup: 16, bn: 32, matrix: { m: 16, n: 16, k: 16 }, bk: 4, rounds: 2 },
      { bn: 48, sn: 48 },
    ];
    const kinds: readonly Omit<ProblemOptions, 'element'>[] = [{}, { residual: 'f16' }, { output: 'f32' }, { output: 'i8', residual: 'f16' }, { output: 'f32', residual: 'f16', bias: false }];
    it.each(variants.map((options, i) => [JSON.stringify(options), options, i < 2 ? kinds : kinds.slice(1, 3)] as const))('%s', async (_, options, ends) => {
      for (const kind of ends) expect(await fault(convProblem(test, { element: 'f16', ...kind }), halves(options))).toBeUndefined();
      // 40 columns: whole vectors of eight, the last tile with a tail.
      expect(await fault(convProblem({ ...base, x: [3, 16, 4, 4], w: [40, 16, 1, 1] }, { element: 'f16', residual: 'f16' }), halves(options))).toBeUndefined();
    });

    it('are rounded, which sums in f32 are not', async () => {
      const problem = convProblem({ ...base, x: [1, 256, 4, 4], w: [16, 256, 3, 3], pads: [1, 1, 1, 1] }, { element: 'f16', output: 'f32' });
      const worst = async (chosen: PackedTactic): Promise<number> => {
        const { values } = readHeld(problem.spec.output.tensor, await runKernels((await testDevice()).device, problem, chosen, PORTABLE_PROFILE));
        return Math.max(...values.map((value, i) => Math.abs(value - problem.expected[i]!)));
      };
      const [rounded, exact] = [await worst(halves({})), await worst(halves({ halfSums: false }))];
      expect(rounded).toBeGreaterThan(20 * exact);
      expect(rounded).toBeLessThan(2 * driftOf(problem, halves({})));
    });
  });

  it.each([
    ['lanes', {}],
    ['emulated', {}],
    ['emulated', { splitK: 2 }],
    ['emulated', { walk: 2, bm: 8 }],
    ['emulated', { stationary: true, walk: 2, bk: 4 }],
  ] as const)('a folded grid has more workgroups than there are tiles, and they write nothing else: %s %o', async (engine, options) => {
    // Whole tiles, so that no row is compared with the last one.
    const problem = pointwiseProblem([5, 32, 4, 4], 16, { element: 'f16', output: 'f32' });
    const beyond = 4096;
    const held = problem.held.map(({ tensor, bytes }) => ({ tensor, bytes: new Uint8Array([...bytes, ...new Uint8Array(beyond)]) }));
    const profile = { ...PORTABLE_PROFILE, maxWorkgroupsPerDimension: 4 };
    expect(kernelsOf(problem, tactic(engine, 'f16', options), profile).calls[0]!.workgroups.slice(0, 2)).toEqual([3, 2]);
    const bytes = await runKernels((await testDevice()).device, { ...problem, held }, tactic(engine, 'f16', options), profile);
    const { values } = readHeld(problem.spec.output.tensor, bytes);
    expect(Math.max(...values.map((value, i) => Math.abs(value - problem.expected[i]!)))).toBeLessThan(1e-4);
    expect(bytes.subarray(-beyond).every((byte) => byte === 0)).toBe(true);
  });

  it.each([2, 4, 8])('overlapping rows: 7x7 with stride 2 of three channels, blocks of %i vectors', async (bk) => {
    for (const engine of ['lanes', 'emulated'] as const) expect(await fault(stemProblem({ images: 2, inputs: 3, height: 12, width: 12, outputs: 20, kernel: 7, stride: 2 }, { element: 'f16' }), tactic(engine, 'f16', { bk }))).toBeUndefined();
  });

  it.each([
    ['lanes', {}],
    ['emulated', {}],
    ['emulated', { ahead: 2, slices: 2, bk: 4 }],
    ['emulated', { buffers: 2 }],
    ['emulated', { bm: 48, sm: 16, bn: 32, sn: 16, bk: 3 }],
    ['emulated', { bm: 32, sm: 16, bn: 16, bk: 8 }],
  ] as const)('rows normalized on their way: %s %o', async (engine, options) => {
    for (const [m, n, k, columns] of [[19, 24, 64], [48, 40, 72], [19, 24, 64, 32], [48, 40, 72, 8], [20, 16, 960, 8]] as const) {
      for (const centers of [true, false]) {
        const problem = normalizedProblem(m, n, k, centers, columns);
        const chosen = tactic(engine, 'f16', options);
        expect(await fault(problem, chosen)).toBeUndefined();
        const { calls } = kernelsOf(problem, chosen, PORTABLE_PROFILE);
        const written = new Float32Array((await runCalls((await testDevice()).device, calls, problem.held, problem.moments.tensor)).buffer);
        expect(Math.max(...problem.pairs.map((wanted, i) => Math.abs(written[i]! - wanted) / Math.max(1, Math.abs(wanted))))).toBeLessThan(1e-5);
      }
    }
  });

  it.each([
    ['lanes', {}],
    ['lanes', { bm: 32, bn: 16, sm: 4, sn: 8, bk: 1, rounds: 2 }],
    ['lanes', { splitK: 2, slices: 2 }],
    ['lanes', { walk: 2 }],
    ['emulated', { splitK: 3, bk: 1 }],
    ['emulated', { slices: 2, bk: 4, bn: 32, sn: 16 }],
    ['emulated', { bm: 48, sm: 16, bn: 32, sn: 16, bk: 3 }],
    ['emulated', { bm: 32, sm: 16, bn: 32, rounds: 2, walk: 2 }],
    ['emulated', { halfSums: true, wide: 8, slices: 2, sm: 16, bk: 4 }],
  ] as const)('results leave with sums over their rows: %s %o', async (engine, options) => {
    const chosen = tactic(engine, 'f16', options);
    const { device } = await testDevice();
    // Tails of rows and columns, operands that differ by row, and rows that are normalized themselves.
    const problems = [
      convProblem({ ...base, x: [3, 32, 3, 3], w: [48, 32, 1, 1] }, { element: 'f16', output: 'f16', residual: 'f16' }),
      convProblem({ ...base, x: [2, 16, 4, 4], w: [16, 16, 3, 3], pads: [1, 1, 1, 1] }, { element: 'f16', output: 'f16' }),
      ...(chosen.splitK > 1 || chosen.walk > 1 || chosen.halfSums ? [] : [normalizedProblem(37, 32, 64, true, 16)]),
    ];
    for (const problem of problems.map((given) => summedProblem(given, 16))) {
      expect(leavesRowSums(chosen, 16)).toBe(true);
      expect(await fault(problem, chosen)).toBeUndefined();
      const { calls, held } = kernelsOf(problem, chosen, PORTABLE_PROFILE);
      const { values } = readHeld(problem.spec.output.tensor, await runCalls(device, calls, held, problem.spec.output.tensor));
      // A convolution's test tells its answers by channel, as they lie in memory last.
      const { columns, output } = problem.spec;
      const pixels = output.tensor.layout === 'linear' ? 1 : output.tensor.dims.slice(2).reduce((all, extent) => all * extent, 1);
      const rows = Array.from({ length: values.length }, (_, i) => {
        const [row, column] = [Math.floor(i / columns), i % columns];
        return values[pixels === 1 ? i : (Math.floor(row / pixels) * columns + column) * pixels + (row % pixels)]!;
      });
      const sums = new Float32Array((await runCalls(device, calls, held, problem.rowSums.tensor)).buffer);
      for (const [i, wanted] of rowSumsOf(rows, columns, 16).entries()) expect(Math.abs(sums[i]! - wanted)).toBeLessThan(1e-5 * Math.max(1, Math.abs(wanted)));
    }
  });

  it.each([
    ['lanes', {}],
    ['lanes', { splitK: 2, slices: 2 }],
    ['emulated', {}],
    ['emulated', { ahead: 2, slices: 2, bk: 4 }],
    ['emulated', { ahead: 4, bk: 2 }],
    ['emulated', { buffers: 2 }],
    ['emulated', { walk: 2, buffers: 2 }],
    ['emulated', { bm: 48, sm: 16, bn: 32, sn: 16, bk: 3, splitK: 2 }],
    ['emulated', { bm: 32, sm: 16, bn: 16, bk: 8, walk: 2 }],
  ] as const)('rows scaled on their way: %s %o', async (engine, options) => {
    // Tiles across several images, tails of rows, columns and depth.
    const shapes = [[5, 7, 20, 40], [3, 16, 16, 64]] as const;
    for (const [images, pixels, n, k] of Object.keys(options).length === 0 ? [...shapes, [1, 19, 24, 72] as const] : shapes) expect(await fault(scaledProblem(images, pixels, n, k), tactic(engine, 'f16', options))).toBeUndefined();
  });

  it.each([
    ['f16', 'rows-k-contiguous', 2, 19, 21, 24],
    ['i8', 'rows-k-contiguous', 3, 16, 16, 64],
    ['f16', 'columns-contiguous', 2, 19, 24, 30],
    ['f16', 'columns-contiguous', 1, 33, 20, 64],
  ] as const)('%s product of activations, %s %ix%ix%ix%i', async (element, kind, batch, m, n, k) => {
    for (const engine of ['lanes', 'emulated'] as const) {
      for (const options of [{}, { ahead: 2, bk: 1 }, { walk: 2 }] as const) {
        expect(await fault(matmulProblem(batch, m, n, k, kind, { element }), tactic(engine, element, options))).toBeUndefined();
      }
    }
  });

  describe('weights of few bits', () => {
    const KINDS = [
      { bits: 4, block: 32, scales: 'f16', zeros: false },
      { bits: 4, block: 16, scales: 'f16', zeros: true },
      { bits: 4, scales: 'f32', zeros: false },
      { bits: 8, block: 24, scales: 'f16', zeros: true },
      { bits: 8, scales: 'f16', zeros: true },
      { bits: 2, block: 32, scales: 'f32', zeros: true },
      { bits: 2, block: 16, scales: 'f16', zeros: false },
    ] as const;
    it.each(([
      ['lanes', {}],
      ['lanes', { splitK: 2, slices: 2 }],
      ['emulated', {}],
      ['emulated', { ahead: 2, slices: 2, bk: 4 }],
      ['emulated', { buffers: 2, bk: 4 }],
      ['emulated', { bm: 48, sm: 16, bn: 48, sn: 48, bk: 2, splitK: 2 }],
      ['emulated', { walk: 2, bk: 4 }],
    ] as const).flatMap(([engine, options], i) => [0, 2, 4].map((step) => [engine, options, KINDS[(i + step) % KINDS.length]!] as const)))('%s %o %o', async (engine, options, kind) => {
      // Whole tiles, and tails of rows, columns and depth.
      for (const [m, n, k] of [[16, 48, 96], [19, 21, 104]] as const) expect(await fault(fewBitsProblem(m, n, k, kind), tactic(engine, 'f16', options))).toBeUndefined();
    });
  });
});
