/** Pictures as bytes in front of a network, against the same arithmetic in float64 and through onnxruntime. */
import { describe, expect, it } from 'vitest';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { type PixelInput, pixelProblem } from '../../../src/ir/pixels.ts';
import { typeOf } from '../../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { verifyGraph } from '../../../src/ir/verify.ts';
import { newGraphBuilder, OP_RULES } from '../../../src/ops/builder.ts';
import { withBytes } from '../../../src/passes/input-bytes.ts';

const pixels = (layout: 'NCHW' | 'NHWC', dtype: 'float32' | 'float16' = 'float32'): PixelInput => ({
  input: 'image',
  layout,
  dtype,
  scale: [1 / 58, 1 / 57, 1 / 255],
  shift: [-2.1, 0.25, 0],
});

/** y = −image, so that what the network sees can be read. */
function negation(layout: 'NCHW' | 'NHWC', dtype: 'float32' | 'float16' = 'float32') {
  const graph = newGraphBuilder('negation');
  graph.input('image', { dtype, dims: layout === 'NCHW' ? [2, 3, 4, 5] : [2, 4, 5, 3] });
  return graph.finish([graph.node('Neg', ['image'], {}, { outputs: ['y'] })]);
}

const bytes = Float64Array.from({ length: 2 * 4 * 5 * 3 }, (_, i) => (i * 37) % 256);

describe('input-bytes', () => {
  for (const layout of ['NCHW', 'NHWC'] as const) {
    it(`gives a ${layout} network what it would have got`, async () => {
      const { graph, reports } = withBytes(negation(layout), [pixels(layout)]);
      verifyGraph(graph, { stage: 'onnx', rules: OP_RULES });
      expect(typeOf(graph, 'image')).toEqual({ dtype: 'uint8', dims: [2, 4, 5, 3] });
      expect(reports.map(({ pass, nodesBefore }) => [pass, nodesBefore])).toEqual([['input-bytes', 1]]);
      const runner = await openGraph(graph);
      const outputs = await runner.run({ image: fromNumbers('uint8', [2, 4, 5, 3], bytes) });
      await runner.dispose();
      const seen = toNumbers(outputs.get('y')!);
      const { scale, shift } = pixels(layout);
      for (let n = 0; n < 2; n++) for (let h = 0; h < 4; h++) for (let w = 0; w < 5; w++) for (let c = 0; c < 3; c++) {
        const at = ((n * 4 + h) * 5 + w) * 3 + c;
        const to = layout === 'NHWC' ? at : ((n * 3 + c) * 4 + h) * 5 + w;
        expect(-seen[to]!).toBeCloseTo(bytes[at]! * scale[c]! + shift[c]!, 5);
      }
    });
  }

  it('keeps the type of the network’s input', () => {
    const { graph } = withBytes(negation('NCHW', 'float16'), [pixels('NCHW', 'float16')]);
    verifyGraph(graph, { stage: 'onnx', rules: OP_RULES });
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Transpose', 'Cast', 'Mul', 'Add', 'Cast', 'Neg']);
  });

  it('leaves a graph as it is where nothing is a picture', () => {
    const graph = negation('NCHW');
    expect(withBytes(graph, [])).toEqual({ graph, reports: [] });
  });

  it('says what is no picture', () => {
    const image = pixels('NCHW');
    expect(pixelProblem({ dtype: 'float32', dims: [1, 3, 4, 4] }, image)).toBeUndefined();
    expect(pixelProblem({ dtype: 'int64', dims: [1, 3, 4, 4] }, image)).toContain('int64');
    expect(pixelProblem({ dtype: 'float32', dims: [1, 4, 4, 3] }, image)).toContain('3 channels in NCHW');
    expect(pixelProblem({ dtype: 'float32', dims: [3, 4, 4] }, image)).toContain('not a picture');
  });
});
