/** Custom kernels of several passes: what each binds, and what is refused by name. */
import { describe, expect, it } from 'vitest';
import { customKernels, customScratch, type CustomKernelSpec } from '../../../src/backends/webgpu/kernels/custom.ts';
import { PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import type { KernelCode, WgslKernel } from '../../../src/ir/custom.ts';
import type { TensorType } from '../../../src/ir/tensor.ts';
import { defineOp } from '../../../src/plugin.ts';

const X: TensorType = { dtype: 'float32', dims: [3, 5] };
const pass = (body: string, threads = 15): KernelCode => ({ workgroupSize: 64, threads, body });

function spec(kernel: Omit<WgslKernel, 'dtypes'>): CustomKernelSpec {
  const whole: WgslKernel = { dtypes: ['float32'], ...kernel };
  const op = defineOp({
    domain: 'com.acme',
    name: 'Two',
    dtypes: ['float32'],
    attributes: {},
    inputs: [{ name: 'x', dims: ['a', 'b'] }, { name: 'scale-of-x', dims: ['b'] }],
    outputs: ['y'],
    infer: ({ inputs: [x] }) => [x!],
    reference: ({ inputs: [x] }) => [x!.values],
    kernels: [whole],
  });
  const definition = { op, attrs: {}, plugin: { name: 'two', version: '1.0.0', sha256: '0'.repeat(64) } };
  return { definition, kernel: whole, inputs: [X, { dtype: 'float32', dims: [5] }], outputs: [X], tile: {} };
}
const scratch = (types: Readonly<Record<string, unknown>>): Pick<WgslKernel, 'scratch'> => ({ scratch: () => types as Readonly<Record<string, TensorType>> });

describe('a kernel of several passes', () => {
  it('binds in each pass what its code names: operands as WGSL spells them, and scratch memory', () => {
    const passes = customKernels(
      spec({ ...scratch({ part: { dtype: 'float16', dims: [2] }, y2: { dtype: 'uint8', dims: [0] } }), emit: ({ inputs: [, s], scratch: { part } }) => [pass(`${part!.name}[i] = ${s!.name}[i];`, 2), pass('y[i] = x[i] * part[1];')] }),
      PORTABLE_PROFILE,
    );
    expect(passes.map(({ bound }) => bound)).toEqual([['scale-of-x', 'part'], ['x', 'y', 'part']]);
    expect(passes.map(({ source }) => source.access)).toEqual([['read', 'read_write'], ['read', 'read_write', 'read_write']]);
    expect(passes[0]!.source.wgsl).toContain('var<storage, read_write> part: array<f32, 4>');
    expect(passes.map(({ workgroups }) => workgroups)).toEqual([[1, 1, 1], [1, 1, 1]]);
  });

  it('leaves out passes without threads, and is one where emit gives one', () => {
    expect(customKernels(spec({ emit: () => [pass('y[i] = 1.0;'), pass('y[i] = 2.0;', 0)] }), PORTABLE_PROFILE)).toHaveLength(1);
    expect(customKernels(spec({ emit: () => pass('y[i] = x[i];') }), PORTABLE_PROFILE).map(({ bound }) => bound)).toEqual([['x', 'y']]);
  });

  it.each<[Readonly<Record<string, unknown>>, RegExp]>([
    [{ x: X }, /'x' means something else in the kernel/],
    [{ lid: X }, /'lid' means something else/],
    [{ 'a-b': X }, /'a-b' is not a valid name in WGSL/],
    [{ part: { dtype: 'float32' } }, /'part' must be \{ dtype, dims \}/],
    [{ part: { dtype: 'float32', dims: [1.5] } }, /whole numbers as dims/],
    [{ part: { dtype: 'float64', dims: [2] } }, /no kernel holds float64, the type of 'part'/],
  ])('refuses scratch memory that can not be: %j', (types, message) => {
    expect(() => customScratch(spec({ ...scratch(types), emit: () => pass('') }))).toThrow(expect.objectContaining({ code: 'PLUGIN_FAILED', message: expect.stringMatching(message) as string }));
  });

  it.each<[string, () => readonly KernelCode[], RegExp]>([
    ['no pass', () => [], /it gives no pass/],
    ['a pass of too many invocations', () => [pass('y[i] = 1.0;'), { ...pass('y[i] = 1.0;'), workgroupSize: 4096 }], /pass 2: workgroupSize must be from 1 to/],
    ['a pass of too many tensors', () => [pass('y[i] = s0[i] + s1[i] + s2[i] + s3[i] + s4[i] + s5[i] + s6[i] + s7[i];')], /it names 9 tensors, and a kernel binds at most 8/],
  ])('refuses %s', (_, emit, message) => {
    const many = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`s${i}`, X]));
    expect(() => customKernels(spec({ ...scratch(many), emit }), PORTABLE_PROFILE)).toThrow(expect.objectContaining({ code: 'PLUGIN_FAILED', message: expect.stringMatching(message) as string }));
  });
});
