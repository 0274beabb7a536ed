/** Casts from and to types of few bits in onnxruntime, which binds none of them, against a table of their numbers. */
import { expect, it } from 'vitest';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { fewBitsCasts } from '../../helpers/few-bits-casts.ts';

it('every number, the middles between neighbours, and what is none', async () => {
  const { graph, inputs, expected } = fewBitsCasts();
  const runner = await openGraph(graph);
  try {
    const outputs = await runner.run(inputs);
    for (const [name, values] of Object.entries(expected)) expect({ name, values: toNumbers(outputs.get(name)!) }).toEqual({ name, values });
  } finally {
    await runner.dispose();
  }
});
