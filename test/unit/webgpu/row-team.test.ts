/** Teams of the row kernel for devices of several vendors: what they are made of, and that their WGSL is valid on Dawn's null backend. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rowTeam } from '../../../src/backends/webgpu/kernels/row-team.ts';
import { type RowEmitter, rowKernel, type RowSpec } from '../../../src/backends/webgpu/kernels/rows.ts';
import { type DeviceTensor, rowMajorStrides } from '../../../src/backends/webgpu/lower/tensor.ts';
import type { DeviceProfile } from '../../../src/backends/webgpu/profile.ts';
import { validatingDevice } from '../../device/helpers.ts';
import { PROFILES } from '../../helpers/profiles.ts';

const NVIDIA = PROFILES['NVIDIA']!;

describe('a team', () => {
  it.each([
    ['a layer normalization of many rows', 6304, 192, 32, 4],
    ['one of few', 128, 192, 32, 1],
    ['softmax over a thousand classes', 1, 250, 32, 1],
    ['a row that one subgroup does not hold', 64, 1024, 128, 1],
    ['a row that no team holds', 1, 12_500, 256, 1],
    ['short rows, few of them', 100, 12, 16, 2],
    ['short rows, plenty of them', 100_000, 12, 2, 64],
    ['rows of a vector or two, plenty of them', 100_000, 2, 1, 128],
    ['long rows, plenty of them', 100_000, 192, 32, 4],
  ])('for %s: %i × %i', (_, rows, steps, size, slots) => {
    const team = rowTeam({ rows, steps, across: false }, NVIDIA);
    expect([team.size, team.slots]).toEqual([size, slots]);
  });

  it('is a tree across rows, and where subgroups are of several sizes', () => {
    const [rows, steps] = [6304, 192];
    for (const team of [rowTeam({ rows, steps, across: true }, NVIDIA), rowTeam({ rows, steps, across: false }, PROFILES['AMD']!)]) {
      expect([team.size, team.slots]).toEqual([64, 2]);
    }
  });

  it('and its neighbours are whole subgroups, within the limits', () => {
    const power = fc.integer({ min: 2, max: 7 }).map((exponent) => 2 ** exponent);
    const extent = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 1_000_000 }));
    fc.assert(
      fc.property(extent, extent, power, fc.constantFrom(128, 256, 1024), (rows, steps, subgroup, maxInvocations) => {
        const { size, slots } = rowTeam({ rows, steps, across: false }, { ...NVIDIA, maxInvocations, subgroupSize: { min: subgroup, max: subgroup } });
        expect(Math.log2(size) % 1).toBe(0);
        expect((size * slots) % subgroup).toBe(0);
        expect(size * slots).toBeLessThanOrEqual(maxInvocations);
      }),
      { seed: 4 },
    );
  });
});

/** Reductions of every kind, one after the other. */
function program(isFloat: boolean): (row: RowEmitter) => void {
  return (row) => {
    const [max, min, product] = (['max', 'min', 'prod'] as const).map((how) => row.reduce(how, (load) => load(0)));
    const sum = row.reduce('sum', (load) => `${load(0)} - ${max}`);
    row.storeEach((load) => `${load(0)} * ${sum} + ${min} - ${product}${isFloat ? ' * 0.5' : ''}`);
  };
}

/** Rows of a matrix (axis 1), or its columns. Halves that are no whole vectors are read and not written. */
function specOf(dims: readonly [number, number], axis: 0 | 1, storage: 'f32' | 'f16' | 'i32' | 'u32'): RowSpec {
  const dtype = storage === 'i32' ? 'int32' : storage === 'u32' ? 'uint32' : 'float32';
  const source: DeviceTensor = { id: 0, dims, dtype, storage, layout: 'linear' };
  const strides = rowMajorStrides(dims);
  const operand = { tensor: source, view: { offset: 0, strides: [strides[1 - axis]!, strides[axis]!] } };
  const target = { ...operand, tensor: { ...source, storage: storage === 'f16' && dims[1] % 4 !== 0 ? ('f32' as const) : storage } };
  return { label: 'rows', kept: [dims[1 - axis]!], reduced: [dims[axis]!], inputs: [operand], outputs: [target] };
}

const SHAPES = [[1, 1000], [128, 768], [7, 197], [3, 4096], [2, 50_257], [40_000, 10], [40_000, 64], [64, 1]] as const;
const SUBGROUPS: Readonly<Record<string, DeviceProfile>> = { ...PROFILES, 'subgroups of 64': { ...NVIDIA, subgroupSize: { min: 64, max: 64 } } };

describe('kernels of rows are valid WGSL', () => {
  it.each(Object.keys(SUBGROUPS))('for %s', { timeout: 60_000 }, async (vendor) => {
    const profile = SUBGROUPS[vendor]!;
    const open = await validatingDevice();
    for (const dims of SHAPES) {
      for (const storage of ['f32', 'f16', 'i32', 'u32'] as const) {
        for (const axis of [0, 1] as const) {
          const { source } = rowKernel(specOf(dims, axis, storage), profile, program(storage === 'f32' || storage === 'f16'));
          const { messages } = await open.device.createShaderModule({ code: source.wgsl }).getCompilationInfo();
          expect(messages.map(({ message, lineNum }) => `${dims.join('×')}, ${storage}, axis ${axis}, ${lineNum}: ${message}`)).toEqual([]);
          expect(source.invocations).toBeLessThanOrEqual(profile.maxInvocations);
          expect(source.workgroupBytes).toBeLessThanOrEqual(profile.maxWorkgroupBytes);
        }
      }
    }
    open.check();
    open.destroy();
  });
});
