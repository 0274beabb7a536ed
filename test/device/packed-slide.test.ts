/** Left matrices whose rows overlap, staged once: first convolutions on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import { overlapOf } from '../../src/backends/webgpu/kernels/packed/slide.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { packedTacticName, packedWorkgroupBytes, type PackedElement, type PackedTactic, VECTOR_ELEMENTS } from '../../src/backends/webgpu/tactics/packed.ts';
import { noDevice } from './helpers.ts';
import { fault, tactic } from './packed-checks.ts';
import { kernelsOf, type Problem, type Stem, stemProblem } from './packed-problem.ts';

const SEVEN = { inputs: 3, outputs: 20, kernel: 7, stride: 2 };
const THREE = { inputs: 3, outputs: 32, kernel: 3, stride: 2 };

/** Lines of 16, 32 and 112 output pixels; tiles of 32 rows leave tails where rows are an odd number of 16. */
const STEMS: readonly Stem[] = [
  { ...SEVEN, images: 1, height: 9, width: 32 },
  { ...SEVEN, images: 3, height: 6, width: 32 },
  { ...SEVEN, images: 1, height: 6, width: 64 },
  { ...SEVEN, images: 3, height: 2, width: 224 },
  { ...THREE, images: 1, height: 5, width: 224 },
  { ...THREE, images: 3, height: 6, width: 32 },
  { ...THREE, images: 3, height: 5, width: 64 },
];

/** Rows that are two vectors apart are staged three apart. */
const STRIDE_FOUR: Stem = { images: 3, inputs: 2, height: 9, width: 64, outputs: 16, kernel: 7, stride: 4 };

/** Tiles of 16×16 matrices whose blocks are so many runs of the problem. */
function sliding({ spec }: Problem, runs: number, options: Partial<PackedTactic> = {}): PackedTactic {
  const overlap = overlapOf(spec.a);
  if (!overlap) throw new Error('rows do not overlap');
  const { step, run } = overlap;
  const matrix = options.matrix ?? { m: 16, n: 16, k: spec.element === 'f16' ? 16 : 32 };
  const slide = { step, run, window: matrix.k / VECTOR_ELEMENTS[spec.element] };
  return tactic('emulated', spec.element, { bm: 32, sm: 16, bn: 32, sn: 16, bk: runs * run, subgroup: 16, slide, matrix, ...options });
}

const title = ({ images, height, width, kernel, stride }: Stem): string => `${images}x${height}x${width} ${kernel}x${kernel} stride ${stride}`;

describe.skipIf(noDevice)('rows that overlap (skipped without SwiftShader)', () => {
  for (const element of ['f16', 'i8'] as const) {
    it.each([...STEMS, STRIDE_FOUR].map((stem) => [title(stem), stem] as const))(`${element}: %s`, { timeout: 60_000 }, async (_, stem) => {
      const problem = stemProblem(stem, { element });
      for (const walk of [1, 4]) expect(await fault(problem, sliding(problem, 1, { walk }))).toBeUndefined();
    });

    const options: readonly Partial<PackedTactic>[] = [
      { buffers: 2 },
      { ahead: 2 },
      { splitK: 2 },
      { bm: 64, sm: 32 },
      { bm: 64, sm: 64, sn: 32, rounds: 2 },
      { bm: 48, sm: 48, bn: 16, walk: 4 },
      { walk: 2, buffers: 2 },
      { bm: 32, sm: 8, matrix: { m: 8, n: 16, k: element === 'f16' ? 8 : 16 } },
    ];
    it.each(options.map((given) => [JSON.stringify(given), given] as const))(`${element}: %s`, { timeout: 60_000 }, async (_, given) => {
      for (const stem of [{ ...SEVEN, images: 3, height: 6, width: 32 }, STRIDE_FOUR]) {
        const problem = stemProblem(stem, { element, residual: element });
        expect(await fault(problem, sliding(problem, 1, given))).toBeUndefined();
      }
    });

    it(`${element}: blocks of several runs, and of the whole depth`, { timeout: 60_000 }, async () => {
      for (const stem of [{ ...SEVEN, images: 3, height: 6, width: 32 }, { ...THREE, images: 3, height: 5, width: 64 }, STRIDE_FOUR]) {
        const problem = stemProblem(stem, { element });
        const runs = problem.spec.depth / overlapOf(problem.spec.a)!.run;
        for (const some of [2, runs].filter((count) => runs % count === 0)) {
          for (const walk of [1, 4]) expect(await fault(problem, sliding(problem, some, { walk, bm: 16, bn: 16 }))).toBeUndefined();
        }
      }
    });
  }
});

describe('the tile in workgroup memory', () => {
  it.each(['f16', 'i8'] as const)('is what the tactic says, %s', (element: PackedElement) => {
    for (const stem of [...STEMS, STRIDE_FOUR]) {
      const problem = stemProblem(stem, { element });
      for (const options of [{}, { buffers: 2 }, { bm: 256, sm: 64, rounds: 4 }] as const) {
        const chosen = sliding(problem, 1, options);
        const [call] = kernelsOf(problem, chosen, PORTABLE_PROFILE).calls;
        const declared = Number(/var<workgroup> tile: array<vec4<u32>, (\d+)>/.exec(call!.source.wgsl)![1]) * 16;
        expect([packedTacticName(chosen, element), packedWorkgroupBytes(chosen)]).toEqual([call!.tactic, declared]);
      }
    }
  });

  it('has a piece of 15 steps and a run for 16 rows', () => {
    const problem = stemProblem(STEMS[0]!, { element: 'f16' });
    // Sixteen pieces of 19 vectors, each in two windows, which are three vectors apart; 64 columns of four vectors, five apart.
    const chosen = sliding(problem, 1, { bm: 256, sm: 256, bn: 64, sn: 64, rounds: 16 });
    expect(packedWorkgroupBytes(chosen)).toBe(((16 * 19 + 1) * 3 + 64 * 5) * 16);
  });
});
