/**
 * Binds the IR's tools to the op table: type inference and signatures for GraphBuilder and verifyGraph.
 */
import type { AnyNode } from '../ir/graph.ts';
import { GraphBuilder } from '../ir/build.ts';
import type { InferredOutputs, OpRules, ValueScope } from '../ir/infer.ts';
import type { OpKind } from '../ir/ops.ts';
import { ShapeError, type InferContext, type OpDef } from './def.ts';
import { inferNode } from './infer.ts';
import { OPS } from './table.ts';

/** The op table as the IR's tools see it. */
export const OP_RULES: OpRules = {
  signature: (op) => OPS[op],
  infer: inferOutputs,
};

/** A builder that infers with the project's op table. */
export function newGraphBuilder(name: string): GraphBuilder {
  return new GraphBuilder(name, OP_RULES);
}

/** What a node's op may know of its inputs in `scope`. */
export function inferContext(node: AnyNode, scope: ValueScope): InferContext {
  const id = (index: number): string | undefined => node.inputs[index] || undefined;
  const optionalType: InferContext['optionalType'] = (index) => {
    const value = id(index);
    return value === undefined ? undefined : scope.type(value);
  };
  return {
    inputCount: node.inputs.length,
    outputCount: node.outputs.length,
    optionalType,
    type(index) {
      const type = optionalType(index);
      if (!type) throw new ShapeError(`input ${index} of ${node.op} is missing`);
      return type;
    },
    constant(index) {
      const value = id(index);
      return value === undefined ? undefined : scope.constant(value);
    },
    ints(index) {
      const value = id(index);
      return value === undefined ? undefined : scope.ints(value);
    },
  };
}

function inferOutputs(node: AnyNode, scope: ValueScope): InferredOutputs {
  const context = inferContext(node, scope);
  const types = inferNode(node.op, node.attrs, context);
  const def = OPS[node.op] as unknown as OpDef<OpKind>;
  return { types, ints: def.propagate?.(node.attrs, context) ?? [] };
}
