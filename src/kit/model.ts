/** Models of one custom op, as ONNX bytes: what a user's file would hold, so that import, build and engine file are checked too. */
import { GraphBuilder } from '../ir/build.ts';
import type { RegisteredOp } from '../ir/custom.ts';
import type { Graph } from '../ir/graph.ts';
import type { Tensor } from '../ir/tensor.ts';
import { exportGraph } from '../onnx/export.ts';
import { OP_RULES } from '../ops/builder.ts';
import { defineNode, writeCustomAttributes } from '../ops/custom.ts';
import { isFloating, type Material } from './case.ts';

export interface OpModel {
  readonly graph: Graph;
  readonly bytes: Uint8Array;
  /** Values of the graph's inputs. */
  readonly feeds: Readonly<Record<string, Tensor>>;
}

/**
 * The op alone (outputs `y0`, `y1` …), or between neighbours that passes may fuse with it: the first floating input comes through
 * a Neg, the first floating output goes through an Abs. Throws ShapeError where the op refuses its inputs.
 */
export function opModel(entry: RegisteredOp, { attrs, inputs }: Material, neighbours = false): OpModel {
  const { op } = entry;
  const builder = new GraphBuilder(op.name, OP_RULES);
  const feeds: Record<string, Tensor> = {};
  const ids = inputs.map((tensor, index) => {
    if (!tensor) return '';
    const name = `x${index}`;
    feeds[name] = tensor;
    return builder.input(name, { dtype: tensor.dtype, dims: tensor.dims });
  });
  const first = neighbours ? inputs.findIndex((tensor) => tensor && isFloating(tensor.dtype)) : -1;
  const operands = ids.map((id, index) => (index === first ? builder.node('Neg', [id], {}) : id));
  const raw = writeCustomAttributes(op, attrs).map(({ name, value }) => [name, value] as const);
  const { definition, types } = defineNode(entry, new Map(raw), inputs);
  const named = op.outputs.map((_, index) => `y${index}`);
  const opset = op.opset?.[0] ?? 1;
  builder.nodeOutputs('Custom', operands, { domain: op.domain, opType: op.name, opset, attributes: writeCustomAttributes(op, attrs), definition }, { outputs: named, types });
  const last = neighbours ? types.findIndex(({ dtype }) => isFloating(dtype)) : -1;
  const outputs = named.map((id, index) => (index === last ? builder.node('Abs', [id], {}, { outputs: ['z'] }) : id));
  const graph = builder.finish(outputs);
  return { graph, bytes: exportGraph(graph), feeds };
}
