/** WGSL of the packed matrix kernel with subgroup matrices, validated by Dawn's null backend for matrices of several vendors. */
import { describe, expect, it } from 'vitest';
import type { Expr } from '../../../src/ir/expr.ts';
import { rangeOf, saturatingTail } from '../../../src/backends/webgpu/kernels/packed/saturate.ts';
import { packedKernels } from '../../../src/backends/webgpu/kernels/packed/kernel.ts';
import { overlapOf } from '../../../src/backends/webgpu/kernels/packed/slide.ts';
import { stridedParts } from '../../../src/backends/webgpu/kernels/packed/stationary.ts';
import { PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import { type Grid, quantizedExpr } from '../../../src/passes/linear-grid.ts';
import { packedInvocations, packedReason, type PackedTactic, packedTacticName, packedWorkgroupBytes, residentByMemory, stagedVectors } from '../../../src/backends/webgpu/tactics/packed.ts';
import { packedTactics } from '../../../src/backends/webgpu/tactics/packed-candidates.ts';
import { validatingDevice } from '../../device/helpers.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { convProblem, fewBitsProblem, kernelsOf, matmulProblem, pointwiseProblem, type Problem, stemProblem } from '../../device/packed-problem.ts';

const base = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
function problems(element: 'f16' | 'i8'): Problem[] {
  return [
    convProblem({ ...base, x: [1, 64, 6, 5], w: [72, 64, 3, 3], pads: [1, 1, 1, 1] }, { element, residual: element }),
    convProblem({ ...base, x: [2, 20, 4, 4], w: [64, 20, 1, 1], strides: [2, 2] }, { element, output: 'f32' }),
    ...(element === 'f16' ? [matmulProblem(2, 20, 24, 40, 'columns-contiguous', { element })] : []),
    matmulProblem(2, 20, 24, 64, 'rows-k-contiguous', { element }),
  ];
}

const sizeOf = ({ spec }: Problem) => ({
  element: spec.element,
  batch: spec.batch.reduce((all, extent) => all * extent, 1),
  rows: spec.rows.reduce((all, extent) => all * extent, 1),
  columns: spec.columns,
  depth: spec.depth,
});

describe('packed tactics', () => {
  it.each(Object.entries(PROFILES))('fit the limits of %s, and are few', (_, profile) => {
    for (const element of ['f16', 'i8'] as const) {
      for (const [batch, rows, columns, depth] of [[1, 401408, 64, 8], [1, 49, 2048, 64], [1, 3136, 64, 72], [12, 128, 64, 16], [1, 1, 1000, 256]] as const) {
        const tactics = packedTactics({ element, batch, rows, columns, depth }, profile);
        expect(tactics.length).toBeGreaterThan(0);
        expect(tactics.length).toBeLessThanOrEqual(26);
        expect(new Set(tactics.map((tactic) => packedTacticName(tactic, element))).size).toBe(tactics.length);
        for (const tactic of tactics) {
          expect(packedReason(tactic, element, profile)).toBeUndefined();
          expect(packedInvocations(tactic)).toBeLessThanOrEqual(profile.maxInvocations);
          expect(packedWorkgroupBytes(tactic)).toBeLessThanOrEqual(profile.maxWorkgroupBytes);
        }
      }
    }
  });

  it('put matrices first where the device has them', () => {
    const shape = { element: 'f16', batch: 1, rows: 25088, columns: 256, depth: 128 } as const;
    expect(packedTactics(shape, PROFILES['NVIDIA']!)[0]!.engine).toBe('matrix');
    expect(packedTactics({ ...shape, element: 'i8' }, PROFILES['Apple']!)[0]!.engine).toBe('lanes');
    expect(packedTactics(shape, PROFILES['no matrices']!)[0]!.engine).toBe('lanes');
  });

  // Within 3 % of the fastest that were measured on an H200 (docs/performance.md); columns and depths of BERT-base and ViT-B/16 at batch 4, depths in vectors.
  it.each([
    [788, 2304, 96, { normalizes: 'known' }, 'matrix 128x128x64 64x64 16x16x16 2 rounds'],
    [788, 768, 96, { readsRows: true, rowSums: 32 }, 'matrix 96x64x64 48x32 16x16x16 2 buffers'],
    [788, 768, 384, { readsRows: true, rowSums: 32 }, 'matrix 128x128x64 64x64 16x16x16 2 rounds /3'],
    [512, 3072, 96, { normalizes: 'known' }, 'matrix 128x128x64 64x64 16x16x16 2 rounds'],
    [512, 768, 384, { readsRows: true, rowSums: 32 }, 'matrix 64x64x128 32x32 16x16x16 2 slices'],
  ] as const)('of rows that are normalized or summed have deep blocks first: %i × %i × %i', (rows, columns, depth, form, name) => {
    expect(packedTacticName(packedTactics({ element: 'f16', batch: 1, rows, columns, depth, ...form }, PROFILES['NVIDIA']!)[0]!, 'f16')).toBe(name);
  });

  it.each(Object.entries(PROFILES))('sum in halves where they may and %s can', (name, profile) => {
    for (const halfSums of [false, true]) {
      const tactics = packedTactics({ element: 'f16', batch: 1, rows: 25088, columns: 256, depth: 288, halfSums }, profile, { perBlock: 1, perTile: 2, matrix: 60, lanes: 2 });
      const sums = new Set(tactics.filter(({ engine }) => engine === 'matrix').map((tactic) => tactic.halfSums));
      expect([...sums]).toEqual(name === 'no matrices' ? [] : [halfSums && ['NVIDIA', 'Apple'].includes(name)]);
      expect(tactics.filter((tactic) => tactic.engine === 'lanes' && tactic.halfSums)).toEqual([]);
    }
  });

  it('split where there are few tiles', () => {
    const few = packedTactics({ element: 'f16', batch: 1, rows: 49, columns: 512, depth: 576 }, PROFILES['NVIDIA']!)[0]!;
    expect(few.splitK * few.slices).toBeGreaterThan(1);
    const many = packedTactics({ element: 'f16', batch: 1, rows: 401408, columns: 256, depth: 32 }, PROFILES['NVIDIA']!)[0]!;
    expect(many.splitK).toBe(1);
  });
});

describe('rounds of the slab', () => {
  it('leave room for as many workgroups as the staged blocks do, where there are enough', () => {
    for (const element of ['f16', 'i8'] as const) {
      for (const tactic of packedTactics({ element, batch: 1, rows: 401408, columns: 256, depth: 64 }, PROFILES['NVIDIA']!, { perBlock: 3, perTile: 4, matrix: 100, lanes: 0 })) {
        const steps = tactic.sm / tactic.matrix!.m;
        const [staged, taken] = [stagedVectors(tactic) * 16, packedWorkgroupBytes(tactic)].map((bytes) => residentByMemory(bytes, 49152));
        expect(tactic.rounds === steps || taken === staged).toBe(true);
        const fewer = [1, 2, 3].findLast((rounds) => rounds < tactic.rounds && steps % rounds === 0) ?? 1;
        expect(tactic.rounds === 1 || packedWorkgroupBytes({ ...tactic, rounds: fewer }) > packedWorkgroupBytes(tactic)).toBe(true);
      }
    }
  });
});

describe('ends of expressions', () => {
  const x: Expr = { kind: 'input', index: 0, dtype: 'float32' };
  const number = (value: number): Expr => ({ kind: 'const', value, dtype: 'float32' });
  const clip = (low: number, high: number, of: Expr): Expr => ({ kind: 'binary', fn: 'min', a: { kind: 'binary', fn: 'max', a: of, b: number(low) }, b: number(high) });
  const byte = (dtype: 'int8' | 'uint8') => ({ tensor: { id: 0, dtype, dims: [16], storage: 'i8', layout: 'linear' }, view: { offset: 0, strides: [1] } }) as const;

  it('bound their results', () => {
    expect(rangeOf(undefined)).toEqual([-Infinity, Infinity]);
    expect(rangeOf({ kind: 'binary', fn: 'max', a: number(0), b: x })).toEqual([0, Infinity]);
    expect(rangeOf(clip(0, 6, x))).toEqual([0, 6]);
    expect(rangeOf(clip(-2, 9, clip(0, 6, x)))).toEqual([0, 6]);
    expect(rangeOf({ kind: 'binary', fn: 'add', a: clip(0, 6, x), b: x })).toEqual([-Infinity, Infinity]);
  });

  it('are quantizations where they round, shift by a whole number and stay within the type', () => {
    const rounded: Expr = { kind: 'unary', fn: 'round', x };
    const shifted = (by: number): Expr => ({ kind: 'binary', fn: 'add', a: rounded, b: number(by) });
    const cast = (to: 'int8' | 'uint8', of: Expr): Expr => ({ kind: 'cast', to, x: of });
    expect(saturatingTail(quantizedExpr(x, { dtype: 'uint8', scale: 0.5, zero: 7 }), byte('uint8'))).toMatchObject({ zero: 7, low: 0, high: 255 });
    expect(saturatingTail(cast('int8', clip(-128, 127, rounded)), byte('int8'))).toEqual({ x, zero: 0, low: -128, high: 127 });
    // A narrower clip, as a fused ReLU6 leaves it, holds as well.
    expect(saturatingTail(cast('uint8', clip(3, 200, shifted(3))), byte('uint8'))).toEqual({ x, zero: 3, low: 3, high: 200 });
    for (const other of [cast('int8', rounded), cast('int8', clip(-128, 200, rounded)), cast('int8', clip(-128, 127, x)), cast('int8', clip(-128, 127, shifted(0.5))), x]) {
      expect(saturatingTail(other, byte('int8'))).toBeUndefined();
    }
    expect(saturatingTail(cast('uint8', clip(0, 255, rounded)), byte('int8'))).toBeUndefined();
  });
});

/** Code that was found valid: kernels for several vendors are alike in part. */
const valid = new Set<string>();

/** What the device says of code, by lines. */
async function faultsOf(device: GPUDevice, code: string): Promise<string[]> {
  if (valid.has(code)) return [];
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  if (messages.length === 0) valid.add(code);
  return messages.map(({ message, lineNum }) => `${lineNum}: ${message}`);
}

describe('packed kernels', () => {
  it('round, shift and saturate a quantized end in one addition', () => {
    const test = { ...base, x: [1, 32, 4, 4], w: [32, 32, 1, 1] };
    const [tactic] = packedTactics({ element: 'i8', batch: 1, rows: 16, columns: 32, depth: 2 }, PROFILES['NVIDIA']!);
    const wgsl = (grid: Grid): string => kernelsOf(convProblem(test, { element: 'i8', grid }), tactic!, PROFILES['NVIDIA']!).calls.at(-1)!.source.wgsl;
    // An even shift goes with the rounding (0 lies at -128), an odd one does not: halves would tip.
    expect(wgsl({ dtype: 'uint8', scale: 0.5, zero: 0 })).toContain(`+ vec4<f32>(${1.5 * 2 ** 23 - 128}.0f)`);
    expect(wgsl({ dtype: 'int8', scale: 0.5, zero: 3 })).toContain(`+ vec4<f32>(${1.5 * 2 ** 23}.0f)) + vec4<u32>(3u)`);
    expect(wgsl({ dtype: 'int8', scale: 0.5, zero: 3 })).not.toContain('round(');
  });


  it.each(Object.entries(PROFILES))('are valid WGSL for %s', { timeout: 120_000 }, async (_, profile) => {
    const open = await validatingDevice();
    const wide = { rows: 25088, columns: 256 };
    let validated = 0;
    for (const [element, halfSums] of [['f16', false], ['f16', true], ['i8', false]] as const) {
      for (const [i, problem] of problems(element).entries()) {
        const ranked = packedTactics({ ...sizeOf(problem), ...(i % 2 === 0 ? wide : {}), halfSums }, profile, { perBlock: 3, perTile: 3, matrix: 24, lanes: 2 });
        const tactics = ranked.map((tactic, at): PackedTactic => ({ ...tactic, wide: ([4, 8, 16] as const)[at % 3]! }));
        for (const tactic of tactics.filter(({ bn, wide: columns }, at) => at % 4 === i && bn % columns === 0)) {
          for (const { source } of kernelsOf(problem, tactic, profile).calls) {
            expect(await faultsOf(open.device, source.wgsl)).toEqual([]);
            expect(source.access.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
            validated++;
          }
        }
      }
    }
    expect(validated).toBeGreaterThan(5);
    open.check();
    open.destroy();
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s with weights of few bits', { timeout: 120_000 }, async (_, profile) => {
    const open = await validatingDevice();
    const kinds = [{ bits: 4, block: 32, scales: 'f16', zeros: true }, { bits: 8, scales: 'f16', zeros: false }, { bits: 2, block: 16, scales: 'f32', zeros: true }] as const;
    for (const [i, kind] of kinds.entries()) {
      const problem = fewBitsProblem(20, 24, 104, kind);
      for (const tactic of packedTactics({ ...sizeOf(problem), rows: 64, columns: 4096, depth: 512 }, profile).filter((_tactic, at) => at % 3 === i)) {
        for (const { source } of kernelsOf(problem, tactic, profile).calls) {
          expect(await faultsOf(open.device, source.wgsl)).toEqual([]);
          expect(source.access.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
        }
      }
    }
    open.check();
    open.destroy();
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s where rows overlap', { timeout: 120_000 }, async (name, profile) => {
    const open = await validatingDevice();
    const engines = new Map<string, number>();
    for (const [element, halfSums] of [['f16', false], ['f16', true], ['i8', false]] as const) {
      for (const [kernel, stride] of [[7, 2], [3, 2], [7, 4]] as const) {
        const problem = stemProblem({ images: 2, inputs: 3, height: 9, width: 16 * stride, outputs: 20, kernel, stride }, { element, residual: element });
        const size = { ...sizeOf(problem), rows: 25088, columns: 64, halfSums, overlap: overlapOf(problem.spec.a)! };
        const tactics = packedTactics(size, profile, { perBlock: 2, perTile: 2, matrix: 60, lanes: 0 });
        for (const tactic of tactics.filter(({ slide }, at) => slide && at % 3 === 0)) {
          for (const { source } of kernelsOf(problem, tactic, profile).calls) {
            expect(await faultsOf(open.device, source.wgsl)).toEqual([]);
          }
          engines.set(`${element} ${tactic.engine}`, (engines.get(`${element} ${tactic.engine}`) ?? 0) + 1);
        }
      }
    }
    const wanted = { 'Apple': ['f16 matrix'], 'no matrices': [] }[name] ?? ['f16 matrix', 'i8 matrix'];
    expect([...engines.keys()]).toEqual(wanted);
    open.check();
    open.destroy();
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s where rows stay in registers', { timeout: 120_000 }, async (name, profile) => {
    const open = await validatingDevice();
    const found = new Map<string, number>();
    for (const [element, halfSums] of [['f16', false], ['f16', true], ['i8', false]] as const) {
      for (const [x, outputs] of [[[2, 64, 8, 8], 256], [[1, 128, 4, 8], 200]] as const) {
        const problem = pointwiseProblem(x, outputs, { element, residual: element });
        const stationary = stridedParts(problem.spec)!.map(({ depth }) => depth);
        const size = { ...sizeOf(problem), rows: 401408, readsRows: true, halfSums, stationary };
        for (const tactic of packedTactics(size, profile, { perBlock: 1, perTile: 2, matrix: 40, lanes: 0 }).filter((one) => one.stationary)) {
          for (const { source } of kernelsOf(problem, tactic, profile).calls) {
            expect(await faultsOf(open.device, source.wgsl)).toEqual([]);
            expect(source.access.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
          }
          found.set(element, (found.get(element) ?? 0) + 1);
        }
      }
    }
    const wanted = { 'Apple': ['f16'], 'no matrices': [] }[name] ?? ['f16', 'i8'];
    expect([...found.keys()]).toEqual(wanted);
    open.check();
    open.destroy();
  });

  it('keep rows in registers where memory is the limit, and only whole matrices of them', () => {
    const wide = { element: 'f16', batch: 1, rows: 401408, columns: 256, depth: 8, readsRows: true } as const;
    expect(packedTactics({ ...wide, stationary: [8] }, PROFILES['NVIDIA']!)[0]!.stationary).toBe(true);
    for (const other of [wide, { ...wide, rows: 401410, stationary: [8] }, { ...wide, stationary: [3, 5] }]) {
      expect(packedTactics(other, PROFILES['NVIDIA']!).some(({ stationary }) => stationary)).toBe(false);
    }
  });

  it('take what rows share from one piece of memory', () => {
    const problem = stemProblem({ images: 2, inputs: 3, height: 9, width: 64, outputs: 64, kernel: 7, stride: 2 }, { element: 'f16' });
    const size = { ...sizeOf(problem), rows: 1605632, overlap: overlapOf(problem.spec.a)! };
    const [tactic] = packedTactics(size, PROFILES['NVIDIA']!);
    expect(packedTacticName(tactic!, 'f16')).toBe('matrix 256x64x32 64x64 16x16x16 slide 4 rounds');
    const { wgsl } = kernelsOf(problem, tactic!, PROFILES['NVIDIA']!).calls[0]!.source;
    // The third matrix's second half of a run: two pieces of 19 windows, and two more; windows are three vectors apart.
    expect(wgsl).toContain(`subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tile, left + ${(2 * 19 + 2) * 3}u, 3u)`);
    // 304 vectors by 128 invocations.
    expect(wgsl).toContain('if (lid < 48u)');
  });

  it('become pipelines where the workgroup is whole subgroups of the largest size', async () => {
    const open = await validatingDevice();
    // The null backend has subgroups of 4 to 128 and the default limits.
    const profile = { ...PROFILES['default limits']!, subgroupSize: { min: 4, max: 128 } };
    for (const element of ['f16', 'i8'] as const) {
      for (const problem of problems(element)) {
        const tactic = packedTactics(sizeOf(problem), profile).find(({ engine, demandsSubgroup }) => engine === 'matrix' && demandsSubgroup)!;
        const { calls } = kernelsOf(problem, tactic, profile);
        for (const { source } of calls) {
          const module = open.device.createShaderModule({ code: source.wgsl });
          await open.device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
        }
      }
    }
    expect(() => open.check()).not.toThrow();
    open.destroy();
  });

  it('refuse rows of halves that share words', () => {
    const problem = matmulProblem(1, 16, 21, 16, 'rows-k-contiguous', { element: 'f16' });
    const output = { ...problem.spec.output, tensor: { ...problem.spec.output.tensor, storage: 'f16' as const } };
    const [tactic] = packedTactics(sizeOf(problem), PORTABLE_PROFILE);
    expect(() => packedKernels({ ...problem.spec, output }, { ...tactic!, splitK: 1 }, PORTABLE_PROFILE, () => output.tensor)).toThrow(/groups of four/);
  });
});
