/** Small models for tests of outside programs. */
import { exportGraph } from '../../../../src/onnx/export.ts';
import type { Graph } from '../../../../src/ir/graph.ts';

/** y = max(x, 0) over float32 [1, 4]. */
export function reluModel(): Uint8Array {
  const type = { dtype: 'float32', dims: [1, 4] } as const;
  const graph: Graph = {
    name: 'relu',
    inputs: ['x'],
    outputs: ['y'],
    types: new Map([['x', type], ['y', type]]),
    constants: new Map(),
    nodes: [{ op: 'Relu', name: 'y', inputs: ['x'], outputs: ['y'], attrs: {}, origins: ['y'] }],
  };
  return exportGraph(graph);
}
