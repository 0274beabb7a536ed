/** Reasons that many lowerings share. */
import { type AnyNode, type Graph, type Node, typeOf } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import { elementCount } from '../../../ir/tensor.ts';

/** For kernels that compute in floating point and can't work on nothing. */
export function floatReason(node: Node<OpKind>, graph: Graph): string | undefined {
  const type = typeOf(graph, node.inputs[0]!);
  if (type.dtype !== 'float32' && type.dtype !== 'float16') return `no kernel for ${type.dtype}`;
  return elementCount(type.dims) === 0 ? 'the input is empty' : undefined;
}

/** For ops that read these inputs (by index, with their names) at build. */
export function mustBeConstant(node: Node, graph: Graph, inputs: Readonly<Record<number, string>>): string | undefined {
  for (const [index, name] of Object.entries(inputs)) {
    const id = node.inputs[Number(index)] ?? '';
    if (id !== '' && !graph.constants.has(id)) return `input ${index} (${name}) is not constant`;
  }
  return undefined;
}

/** Whether a node gives no element at all: that needs no kernel. */
export function givesNothing({ outputs }: AnyNode, graph: Graph): boolean {
  return outputs.every((id) => id === '' || elementCount(typeOf(graph, id).dims) === 0);
}
