/** A model cut where the IR ends: head, then tail, give in onnxruntime what the whole gives. */
import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers, type Tensor } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { cutTail, type Tail } from '../../../src/onnx/tail.ts';
import { branch, choose, detector } from './graphs.ts';
import { floats, modelBytes, node, value, type ModelParts } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

function cut(parts: ModelParts): { readonly tail: Tail | undefined; readonly reasons: readonly string[] } {
  const bytes = modelBytes(parts);
  const result = importGraph(readModel(bytes));
  if (result.ok) throw new Error('the IR holds all of it');
  return { tail: result.held && cutTail(bytes, result.held), reasons: result.unsupported.map(({ op }) => op) };
}

async function expectSame(parts: ModelParts, x: Tensor): Promise<Tail> {
  const { tail } = cut(parts);
  if (!tail) throw new Error('nothing is held');
  const expected = await runOnnx(modelBytes(parts), { x });
  const head = await runOnnx(exportGraph(tail.head), { x });
  const found = { ...head, ...(await runOnnx(tail.bytes, { x, ...head })) };
  expect(tail.outputs).toEqual(Object.keys(expected));
  for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
  return tail;
}

const x = fromNumbers('float32', [1, 8, 4], Array.from({ length: 32 }, (_, i) => Math.abs(Math.sin(i * 3)) * 4));

describe('tails', () => {
  it('begin where a length is for the data to decide', async () => {
    const tail = await expectSame(detector, x);
    expect(tail.head.nodes.map(({ op }) => op)).toEqual(['Mul', 'ReduceMax', 'Unsqueeze', 'NonMaxSuppression']);
    expect(tail.nodes.map(({ op }) => op)).toEqual(['Gather', 'Gather', 'Shape']);
    expect([...tail.inputs].sort()).toEqual(['boxes', 'chosen']);
  });

  it('leave an output that an Identity names to the node whose length the data decide', async () => {
    const nodes = [...detector.nodes!.slice(0, 5), node('Identity', ['chosen'], ['selected']), node('NonZero', ['best'], ['where']), node('Shape', ['where'], ['count'])];
    const outputs = ['selected', 'count'].map((name) => value(name, 'int64', []));
    const tail = await expectSame({ ...detector, nodes, outputs }, x);
    expect(tail.head.nodes.map(({ op }) => op)).toEqual(['Mul', 'ReduceMax', 'Unsqueeze', 'NonMaxSuppression', 'NonZero']);
    expect(tail.head.nodes[3]!.outputs).toEqual(['selected']);
    expect(tail.nodes.map(({ op }) => op)).toEqual(['Shape']);
    const whole = importGraph(readModel(modelBytes({ ...detector, nodes: nodes.slice(0, 6), outputs: outputs.slice(0, 1) })));
    expect(whole).toMatchObject({ ok: true, graph: { outputs: ['selected'] } });
    // One that another node reads, or that is an output itself, keeps its name.
    const read = { ...detector, nodes: [...nodes.slice(0, 6), node('Shape', ['chosen'], ['count'])], outputs };
    expect(cut(read).reasons).toEqual(['Identity', 'Shape']);
    expect(cut({ ...detector, nodes: nodes.slice(0, 6), outputs: ['selected', 'chosen'].map((name) => value(name, 'int64', [])) }).reasons).toEqual(['Identity']);
  });

  it('hold control flow, and what its branches read of the head, of weights and of the inputs', async () => {
    const parts: ModelParts = {
      inputs: [value('x', 'float32', [1, 8, 4])],
      outputs: ['y', 'm'].map((name) => value(name, 'float32', [])),
      initializers: { limit: floats([100], []), weight: floats([3], []) },
      nodes: [
        node('Exp', ['x'], ['e']),
        node('ReduceMax', ['e'], ['m'], { keepdims: 0 }),
        node('Greater', ['m', 'limit'], ['large']),
        choose('large', ['z'], branch([node('Mul', ['e', 'weight'], ['t'])], ['t']), branch([node('Add', ['e', 'x'], ['t'])], ['t'])),
        node('Neg', ['z'], ['y']),
      ],
    };
    const tail = await expectSame(parts, x);
    expect(tail.nodes.map(({ op }) => op)).toEqual(['If', 'Neg']);
    expect([...tail.inputs].sort()).toEqual(['e', 'large', 'x']);
    await expectSame(parts, fromNumbers('float32', [1, 8, 4], toNumbers(x).map((v) => v / 10)));
  });

  it('are not cut off where there would be no head', () => {
    const all: ModelParts = { nodes: [node('Unique', ['x'], ['u']), node('Relu', ['u'], ['y'])] };
    expect(cut(all)).toEqual({ tail: undefined, reasons: ['Unique'] });
  });
});
