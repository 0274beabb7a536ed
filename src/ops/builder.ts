/**
 * Binds the IR's tools to the op table: type inference and signatures for GraphBuilder and verifyGraph.
 */
import { GraphBuilder } from '../ir/build.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { InferredOutputs, OpRules, ValueScope } from '../ir/infer.ts';
import { inferContext, inferNode, opDef, propagateNode, type InputInfo } from './infer.ts';

/** The op table as the IR's tools see it. */
export const OP_RULES: OpRules = { signature: opDef, infer: inferOutputs };

/** A builder that infers with the project's op table. */
export function newGraphBuilder(name: string): GraphBuilder {
  return new GraphBuilder(name, OP_RULES);
}

function inferOutputs(node: AnyNode, scope: ValueScope): InferredOutputs {
  const inputs = node.inputs.map((id) => inputInfo(id, scope));
  const context = inferContext(inputs, node.outputs.length);
  return { types: inferNode(node.op, node.attrs, context), known: propagateNode(node.op, node.attrs, context) };
}

function inputInfo(id: ValueId, scope: ValueScope): InputInfo | undefined {
  const type = id ? scope.type(id) : undefined;
  return type && { type, constant: scope.constant(id), known: scope.known(id) };
}
