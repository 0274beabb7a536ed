/** Shapes that follow from others by arithmetic on floats. */
import { describe, expect, it } from 'vitest';
import { importFolded } from '../../../src/backends/import-folded.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { floats, ints, modelBytes, node, value, type ModelParts } from '../onnx/models.ts';

/** A power of an open size, rounded down, is the size of a picture; the same of that once more. */
const scaled: ModelParts = {
  opset: 13,
  inputs: [value('x', 'float32', ['N', 2, 'H', 5])],
  outputs: [value('y', 'float32', [])],
  initializers: { exponent: floats([1.3], []), two: ints([2]), leading: ints([1, 2]), last: ints([5]) },
  nodes: ['x', 'r'].flatMap((from, i) => [
    node('Shape', [from], [`shape${i}`]),
    node('Gather', [`shape${i}`, 'two'], [`size${i}`]),
    node('Cast', [`size${i}`], [`float${i}`], { to: 1 }),
    node('Pow', [`float${i}`, 'exponent'], [`power${i}`]),
    node('Floor', [`power${i}`], [`floor${i}`]),
    node('Cast', [`floor${i}`], [`to${i}`], { to: 7 }),
    node('Concat', ['leading', `to${i}`, 'last'], [`sizes${i}`], { axis: 0 }),
    node('Resize', [from, '', '', `sizes${i}`], [i === 0 ? 'r' : 'y'], { mode: 'nearest' }),
  ]),
};

describe('folded import', () => {
  it('computes sizes by floats, one after the other', async () => {
    const result = await importFolded(readModel(modelBytes(scaled)), { dims: { H: 7 } });
    if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
    expect(result.graph.types.get('y')?.dims).toEqual([1, 2, Math.floor(Math.floor(7 ** 1.3) ** 1.3), 5]);
    expect(result.graph.nodes.map(({ op }) => op)).toEqual(['Resize', 'Resize']);
  });

  it('leaves what the data decide to its reason', async () => {
    const parts: ModelParts = {
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: [value('y', 'float32', [])],
      nodes: [node('NonZero', ['x'], ['z']), node('Transpose', ['z'], ['y'])],
    };
    const result = await importFolded(readModel(modelBytes(parts)), {});
    expect(result.ok ? [] : result.unsupported.map(({ op }) => op)).toEqual(['Transpose']);
  });
});
