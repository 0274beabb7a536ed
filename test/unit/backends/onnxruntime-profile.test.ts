import { describe, expect, it } from 'vitest';
import { namedAsLayers } from '../../../src/backends/onnxruntime/profile.ts';
import { MODEL_PART } from '../../../src/backends/onnxruntime/parts.ts';
import type { Engine } from '../../../src/engine/engine.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';

describe('namedAsLayers', () => {
  const builder = newGraphBuilder('g');
  builder.input('x', { dtype: 'float32', dims: [2] });
  const a = builder.node('Relu', ['x'], {}, { name: 'first', outputs: ['a'] });
  const graph = builder.finish([builder.node('Neg', [a], {}, { name: 'second', outputs: ['b'] })]);
  const layers = graph.nodes.map(({ name, op, origins }) => ({ name, kind: op, precision: 'float32' as const, origins, flops: 1, bytes: 1 }));
  const engine = { header: { layers }, parts: new Map([[MODEL_PART, exportGraph(graph)]]) } as unknown as Engine;
  const named = (...names: string[]) => namedAsLayers(names.map((layer) => ({ layer, durationNs: 1 })), engine).map(({ layer }) => layer);

  it('finds the layer by its own name, by that with a layout, and by the value that it gives', () => {
    expect(named('first', 'second_nhwc', 'b_nchwc', 'a')).toEqual(['first', 'second', 'second', 'first']);
  });

  it('says whose work a layer did too: those before it that have no time', () => {
    expect(namedAsLayers([{ layer: 'b_nchwc', durationNs: 1 }], engine)).toEqual([{ layer: 'second', durationNs: 1, alsoDid: ['first'] }]);
  });

  it("leaves what is onnxruntime's own", () => {
    expect(named('ReorderInput_token_0', 'first')).toEqual(['ReorderInput_token_0', 'first']);
  });
});
