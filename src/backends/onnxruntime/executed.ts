/**
 * The layers of an int8 engine as onnxruntime executes them, with the precision of each. An operator's name tells integer
 * kernels; what only moves elements has the type of what it moves.
 */
import type { EngineLayer } from '../../engine/engine.ts';
import type { Graph } from '../../ir/graph.ts';
import type { DType } from '../../ir/tensor.ts';
import { nodeCost } from '../../ops/infer.ts';
import type { OptimizedNode } from './optimized.ts';

/** Kernels that compute with 8-bit integers (onnxruntime's ContribOperators.md, and ONNX's own). */
const INTEGER_KERNEL = /^(QLinear\w+|QGemm|QAttention|MatMulInteger\w*|ConvInteger|DynamicQuantizeMatMul)$/;
const MOVEMENT = /^(NhwcMaxPool|MaxPool|Transpose|Reshape|Flatten|Resize|Squeeze|Unsqueeze|Gather|Slice|Identity|Split|Expand|DepthToSpace|SpaceToDepth|Pad)$/;

/** What onnxruntime appends to the name of a node that it rewrites. */
const SUFFIX = /(_token_\d+|_nhwc|_nchwc|_quant|_fused)+$/;

/** The optimized nodes as layers. `graph` is what was given to onnxruntime: work and origins come from there, by name. */
export function executedLayers(graph: Graph, nodes: readonly OptimizedNode[]): EngineLayer[] {
  const known = new Map(graph.nodes.map((node) => [node.name, node]));
  const dtypes = new Map<string, DType>();
  for (const [id, { dtype }] of graph.types) dtypes.set(id, dtype);
  return nodes.map((optimized): EngineLayer => {
    const { name, op, inputs, outputs } = optimized;
    const node = known.get(name) ?? known.get(name.replace(SUFFIX, ''));
    const data = dtypes.get(inputs[0] ?? '') ?? 'float32';
    const precision = precisionOf(op, data);
    const output = op === 'QuantizeLinear' ? (dtypes.get(inputs[2] ?? '') ?? 'uint8') : op === 'DequantizeLinear' ? 'float32' : precision;
    for (const id of outputs) if (!dtypes.has(id)) dtypes.set(id, output);
    const cost = node ? nodeCost(graph, node) : { flops: 0, bytes: 0 };
    return { name, kind: op, precision, origins: node?.origins ?? [], ...cost };
  });
}

function precisionOf(op: string, data: DType): DType {
  if (INTEGER_KERNEL.test(op)) return data === 'int8' ? 'int8' : 'uint8';
  return MOVEMENT.test(op) ? data : 'float32';
}

/** What share of the operations runs in integers, and which products do not although they were to. */
export function int8Proof(layers: readonly EngineLayer[], products: ReadonlySet<string>): { readonly share: number; readonly float: readonly string[] } {
  const integer = ({ precision }: EngineLayer) => precision === 'uint8' || precision === 'int8';
  const sum = (some: readonly EngineLayer[]) => some.reduce((total, { flops }) => total + flops, 0);
  const executed = new Set(layers.filter(integer).map(({ name }) => name.replace(SUFFIX, '')));
  return {
    share: sum(layers.filter(integer)) / Math.max(1, sum(layers)),
    float: [...products].filter((name) => !executed.has(name)),
  };
}
