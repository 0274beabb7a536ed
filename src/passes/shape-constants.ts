/**
 * Shape constants: values that follow from static shapes alone become constants.
 *
 * The op table's `propagate` computes them (Shape → Gather → Concat → Reshape and the like), so that no evaluator is needed
 * and a graph without fusion has them too.
 */
import { GraphEditor } from '../ir/edit.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import { createScope } from '../ir/infer.ts';
import { sameDims, type Tensor } from '../ir/tensor.ts';
import { OP_RULES } from '../ops/builder.ts';
import { materialize } from '../ops/values.ts';
import type { Pass, PassResult } from './pass.ts';

export const shapeConstants: Pass = {
  name: 'shape-constants',
  summary: 'compute what follows from static shapes',
  basic: true,
  run: foldShapes,
};

function foldShapes(graph: Graph): PassResult {
  const found = knownTensors(graph);
  const edit = new GraphEditor(graph);
  let folded = 0;
  for (const [id, tensor] of found) {
    // A value that only other shape arithmetic reads goes away with its readers. An output keeps its node, for its name.
    const needed = edit.consumers(id).some((reader) => reader.outputs.some((output) => !found.has(output)));
    if (edit.isOutput(id) || !needed) continue;
    edit.replaceValue(id, edit.addConstant(tensor, id));
    folded++;
  }
  return { graph: edit.finish(), rewrites: { shape: folded } };
}

function knownTensors(graph: Graph): Map<ValueId, Tensor> {
  const known = new Map<ValueId, readonly number[]>();
  const scope = createScope(graph.types, graph.constants, known);
  const tensors = new Map<ValueId, Tensor>();
  for (const node of graph.nodes) {
    if (node.op === 'Custom') continue;
    const inferred = OP_RULES.infer(node, scope);
    node.outputs.forEach((id, index) => {
      const values = inferred.known[index];
      const type = inferred.types[index];
      if (!id || !values || !type) return;
      known.set(id, values);
      const tensor = materialize(type, values);
      if (tensor && sameDims(tensor.dims, graph.types.get(id)?.dims ?? [])) tensors.set(id, tensor);
    });
  }
  return tensors;
}
