/** Which values reach beyond the largest half, on onnxruntime against what is known of them. */
import { describe, expect, it } from 'vitest';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { watchPeaks } from '../../../src/quantize/peaks.ts';

/** x → 300·x, squared, summed, the root of it, and one value that is negative. */
function norm() {
  const b = newGraphBuilder('norm');
  b.input('x', { dtype: 'float32', dims: [2, 4] });
  b.node('Mul', ['x', b.constant(fromNumbers('float32', [], [300]))], {}, { outputs: ['big'] });
  b.node('Mul', ['big', 'big'], {}, { outputs: ['squares'] });
  b.node('Neg', ['squares'], {}, { outputs: ['negative'] });
  b.node('ReduceSum', ['squares', b.constant(fromNumbers('int64', [1], [1]))], { keepdims: 1, noop_with_empty_axes: 0 }, { outputs: ['sum'] });
  b.node('Sqrt', ['sum'], {}, { outputs: ['root'] });
  return b.finish(['root', 'negative']);
}

describe('watchPeaks', () => {
  it('names what reached beyond a half in any batch, whatever its sign, and leaves out what is observed', async () => {
    const graph = norm();
    const peaks = watchPeaks(graph, new Set(['big']));
    expect(peaks.outputs).toHaveLength(4);
    const runner = await openGraph({ ...peaks.graph, outputs: peaks.outputs });
    const run = async (value: number) => peaks.add(await runner.run({ x: fromNumbers('float32', [2, 4], [value, 0, 0, 0, 0, 0, 0, 0]) }));
    try {
      await run(0.5);
      expect(peaks.beyondHalf()).toEqual([]);
      await run(-1);
      expect(peaks.beyondHalf()).toEqual(['squares', 'negative', 'sum']);
      await run(0.5);
      expect(peaks.beyondHalf()).toEqual(['squares', 'negative', 'sum']);
    } finally {
      await runner.dispose();
    }
  });
});
