import { describe, expect, it } from 'vitest';
import type { Backend, ReferenceModel } from '../../../../src/backends/backend.ts';
import { fromNumbers, toNumbers, type Tensor } from '../../../../src/ir/tensor.ts';
import { createRegistry } from '../../../../src/registry.ts';
import { fixedBatch } from '../../../../src/onnx/bind.ts';
import { classCount, openReferences } from '../../../../src/workflows/run/reference.ts';

/** A reference that doubles `x`, counts its rows, and tells what it was given. */
function doubling(calls: number[][]): ReferenceModel {
  return {
    inputNames: ['x', 'scale'],
    outputNames: ['y', 'constant'],
    async run(inputs) {
      const x = inputs.get('x');
      if (x?.kind !== 'tensor') throw new Error('x is missing');
      calls.push([...x.tensor.dims]);
      const y = fromNumbers('float32', x.tensor.dims, Array.from(toNumbers(x.tensor), (value) => 2 * Number(value)));
      return new Map([
        ['y', { kind: 'tensor', tensor: y }],
        ['constant', { kind: 'tensor', tensor: fromNumbers('float32', [5], [1, 2, 3, 4, 5]) }],
      ]);
    },
    dispose: async () => {},
  };
}

function backend(name: string, reference?: Backend['reference']): Backend {
  const never = () => Promise.reject(new Error('not used'));
  return { name, description: '', probe: never, supports: () => [], build: never, load: never, ...(reference && { reference }) };
}

const registry = (reference: Backend['reference']) =>
  createRegistry([{ plugin: { name: 'p', version: '1', backends: [backend('onnxruntime', reference)] }, source: 'built-in' }]);
const model = (ownBatch: number | undefined) => ({ bytes: new Uint8Array(), path: '/models/m.onnx', ownBatch });
const x = (rows: number): { readonly x: Tensor; readonly scale: Tensor } => ({
  x: fromNumbers('float32', [rows, 2], Array.from({ length: 2 * rows }, (_, i) => i)),
  scale: fromNumbers('float32', [3], [1, 1, 1]),
});

describe('openReferences', () => {
  it('opens once, for every backend that has no reference of its own', async () => {
    let opened = 0;
    const references = openReferences(model(undefined), registry(async () => (opened++, doubling([]))));
    await references.of(backend('a'));
    await references.of(backend('b'));
    expect(opened).toBe(1);
    const own = backend('c', async () => doubling([]));
    const calls: number[][] = [];
    await (await references.of({ ...own, reference: async () => doubling(calls) })).run(x(1), 1);
    expect(calls).toEqual([[1, 2]]);
  });

  it('runs a model of a fixed batch in portions, and joins what leads with the portion', async () => {
    const calls: number[][] = [];
    const reference = await openReferences(model(2), registry(async () => doubling(calls))).of(backend('a'));
    const { y, constant } = await reference.run(x(6), 6);
    expect(calls).toEqual([[2, 2], [2, 2], [2, 2]]);
    expect(y?.dims).toEqual([6, 2]);
    expect(Array.from(toNumbers(y!), Number)).toEqual(Array.from({ length: 12 }, (_, i) => 2 * i));
    expect(constant?.dims).toEqual([5]);
  });

  it.each([6, 3])('fills the last portion of %i samples up, and gives the samples that were asked for', async (rows) => {
    const calls: number[][] = [];
    const reference = await openReferences(model(4), registry(async () => doubling(calls))).of(backend('a'));
    const { y } = await reference.run(x(rows), rows);
    expect(calls).toEqual(Array.from({ length: Math.ceil(rows / 4) }, () => [4, 2]));
    expect(y?.dims).toEqual([rows, 2]);
    expect(Array.from(toNumbers(y!), Number)).toEqual(Array.from({ length: 2 * rows }, (_, i) => 2 * i));
  });

  it('rejects for every user where it can not be opened, and has nothing to let go of then', async () => {
    const references = openReferences(model(undefined), registry(() => Promise.reject(new Error('too large'))));
    await expect(references.of(backend('a'))).rejects.toThrow('too large');
    await expect(references.of(backend('b'))).rejects.toThrow('too large');
    await expect(references.dispose()).resolves.toBeUndefined();
  });
});

describe('fixedBatch', () => {
  const value = (...dims: (number | string)[]) => ({ name: 'v', type: { kind: 'tensor' as const, dtype: 'float32' as const, dtypeName: 'float32', dims } });

  it('is what all inputs lead with, where the model fixes it', () => {
    expect(fixedBatch([value(1, 3), value(1, 7)])).toBe(1);
    expect(fixedBatch([value('N', 3)])).toBeUndefined();
    expect(fixedBatch([value(1, 3), value(2, 3)])).toBeUndefined();
    expect(fixedBatch([])).toBeUndefined();
  });
});

describe('classCount', () => {
  it('is the last dimension', () => {
    expect(classCount({ name: 'y', dtype: 'float32', dims: [8, 1000] })).toBe(1000);
    expect(classCount({ name: 'y', dtype: 'float32', dims: [] })).toBeUndefined();
    expect(classCount(undefined)).toBeUndefined();
  });
});
