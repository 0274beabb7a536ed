/** Damage of every kind ends in a graph, a list of what is unsupported, or one expected error. `scripts/fuzz-onnx.mjs` goes on for longer. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { cutTail } from '../../../src/onnx/tail.ts';
import { branch, choose, detector } from './graphs.ts';
import { encode, floats, ints, modelBytes, modelProto, node, value } from './models.ts';

const conv = modelBytes({
  opset: 11,
  inputs: [value('x', 'float32', ['N', 2, 6, 6])],
  outputs: [value('y', 'float32', ['N', 3])],
  initializers: { w: floats(Array.from({ length: 54 }, (_, i) => i / 7), [3, 2, 3, 3]), k: ints([0, -1]), z: fromNumbers('float16', [2], [1, 2]) },
  nodes: [
    node('Conv', ['x', 'w'], ['a'], { auto_pad: 'SAME_UPPER', strides: [2, 2] }),
    node('Clip', ['a'], ['b']),
    node('MaxPool', ['b'], ['c'], { kernel_shape: [2, 2], pads: [0, 0, 1, 1] }),
    node('Reshape', ['c', 'k'], ['d']),
    node('Softmax', ['d'], ['e'], { axis: 1 }),
    node('Split', ['e'], ['y', 'f'], { axis: 1, split: [3, 24] }),
  ],
});

const shapes = modelBytes({
  opset: 13,
  inputs: [value('x', 'float32', ['N', 3, 4])],
  outputs: [value('y', 'float32', ['N', 12])],
  initializers: { zero: ints([0]), rest: ints([-1]), half: floats([1, 1, 2]) },
  nodes: [
    node('Shape', ['x'], ['s']),
    node('Gather', ['s', 'zero'], ['n']),
    node('Concat', ['n', 'rest'], ['t'], { axis: 0 }),
    node('Reshape', ['x', 't'], ['y']),
    node('Resize', ['x', '', 'half'], ['r'], { mode: 'linear' }),
    node('Slice', ['r', 'zero', 'rest', 'zero'], ['l']),
    node('Transpose', ['l'], ['q'], { perm: [2, 0, 1] }),
  ],
});

/** Control flow at build and in the data, and what follows a length that the data decide. */
const partial = modelBytes({
  ...detector,
  initializers: { ...detector.initializers!, yes: fromNumbers('bool', [], [1]) },
  nodes: [...detector.nodes!.slice(0, -1), choose('yes', ['either'], branch([node('Shape', ['column'], ['t'])], ['t']), branch([node('Size', ['x'], ['t'])], ['t'])), node('Identity', ['either'], ['count'])],
});

/** An edit of bytes: `at` is a fraction of the length. */
const edit = fc.record({ kind: fc.constantFrom('flip', 'set', 'remove', 'repeat', 'insert', 'cut'), at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), byte: fc.nat(255) });

function apply(bytes: Uint8Array, { kind, at, byte }: { readonly kind: string; readonly at: number; readonly byte: number }): Uint8Array {
  const index = Math.floor(at * bytes.length);
  const [before, after] = [bytes.subarray(0, index), bytes.subarray(index)];
  switch (kind) {
    case 'flip':
      return Uint8Array.of(...before, (after[0] ?? 0) ^ (1 << (byte & 7)), ...after.subarray(1));
    case 'set':
      return Uint8Array.of(...before, byte, ...after.subarray(1));
    case 'remove':
      return Uint8Array.of(...before, ...after.subarray(1 + (byte & 7)));
    case 'repeat':
      return Uint8Array.of(...before, ...after.subarray(0, byte & 15), ...after);
    case 'insert':
      return Uint8Array.of(...before, byte, ...after);
    default:
      return before.slice();
  }
}

const EXPECTED = ['imported', 'unsupported', 'MODEL_INVALID', 'MODEL_UNSUPPORTED'];

function outcomeOf(bytes: Uint8Array): string {
  try {
    const result = importGraph(readModel(bytes), { batch: 2 });
    if (!result.ok) {
      const tail = result.held && cutTail(bytes, result.held);
      if (tail) exportGraph(tail.head);
      return 'unsupported';
    }
    exportGraph(result.graph);
    return 'imported';
  } catch (error) {
    return error instanceof TsrtError ? error.code : `${String(error)}\n${error instanceof Error ? error.stack : ''}`;
  }
}

describe('damaged models', () => {
  it('the models themselves import', () => {
    expect(outcomeOf(conv)).toBe('imported');
    expect(outcomeOf(shapes)).toBe('imported');
    expect(outcomeOf(partial)).toBe('unsupported');
  });

  it.each([['conv', conv], ['shapes', shapes], ['partial', partial]])('%s: edited bytes', (_, base) => {
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        expect(EXPECTED).toContain(outcomeOf(edits.reduce(apply, base)));
      }),
      { seed: 20240607, numRuns: 300 },
    );
  });

  it('attributes and shapes of any size', () => {
    const size = fc.oneof(fc.integer({ min: -3, max: 9 }), fc.constantFrom(2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER, -(2 ** 40)));
    const sizes = fc.array(size, { maxLength: 5 });
    const op = fc.constantFrom('Conv', 'MaxPool', 'AveragePool', 'ConvTranspose', 'Pad', 'Slice', 'Transpose', 'Reshape', 'Tile', 'Expand', 'TopK', 'Split', 'Upsample', 'Squeeze', 'Unsqueeze', 'ReduceMean', 'DepthToSpace', 'OneHot', 'Gather', 'EyeLike');
    const names = ['kernel_shape', 'strides', 'pads', 'dilations', 'perm', 'axes', 'split', 'starts', 'ends', 'output_shape'];
    const scalars = ['axis', 'k', 'group', 'blocksize', 'keepdims', 'ceil_mode'];
    const some = (keys: readonly string[], item: fc.Arbitrary<number | number[]>) => fc.dictionary(fc.constantFrom(...keys), item, { maxKeys: 3 });
    fc.assert(
      fc.property(op, fc.constantFrom(7, 9, 11, 13, 18, 22), sizes, sizes, some(names, sizes), some(scalars, size), (opType, opset, dims, known, lists, numbers) => {
        const proto = modelProto({
          opset,
          inputs: [value('x', 'float32', dims.map((dim) => (dim < 0 ? 1 : dim)))],
          outputs: [value('y', 'float32', [])],
          initializers: { k: ints(known) },
          nodes: [node(opType, ['x', 'k'], ['y'], { ...lists, ...numbers })],
        });
        expect(EXPECTED).toContain(outcomeOf(encode(proto)));
      }),
      { seed: 20240607, numRuns: 600 },
    );
  });
});
