/**
 * The layers of an int8 engine as onnxruntime executes them, with the precision of each. An operator's name tells integer
 * kernels; what only moves elements has the type of what it moves.
 */
import type { EngineLayer } from '../../engine/engine.ts';
import { unionOrigins } from '../../ir/edit.ts';
import type { Graph } from '../../ir/graph.ts';
import type { DType } from '../../ir/tensor.ts';
import { nodeCost } from '../../ops/infer.ts';
import type { OptimizedNode } from './optimized.ts';

/** Kernels that compute with 8-bit integers (onnxruntime's ContribOperators.md, and ONNX's own). */
const INTEGER_KERNEL = /^(QLinear\w+|QGemm|QAttention|MatMulInteger\w*|ConvInteger|DynamicQuantizeMatMul)$/;
const CONVOLUTION = /^(Nhwc)?(Fused)?Conv$/;
const MOVEMENT = /^(NhwcMaxPool|MaxPool|Transpose|Reshape|Flatten|Resize|Squeeze|Unsqueeze|Gather|Slice|Identity|Split|Expand|DepthToSpace|SpaceToDepth|Pad)$/;

/** What onnxruntime appends to the name of a node that it rewrites. */
const SUFFIX = /(_token_\d+|_nhwc|_nchwc|_quant|_fused)+$/;

/** The optimized nodes as layers. `graph` is what was given to onnxruntime: work and origins come from there, by name. */
export function executedLayers(graph: Graph, nodes: readonly OptimizedNode[]): EngineLayer[] {
  const known = new Map(graph.nodes.map((node) => [node.name, node]));
  const giver = new Map(graph.nodes.flatMap((node) => node.outputs.map((id) => [id, node] as const)));
  const dtypes = new Map<string, DType>();
  for (const [id, { dtype }] of graph.types) dtypes.set(id, dtype);
  return nodes.map((optimized): EngineLayer => {
    const { name, op, inputs, outputs } = optimized;
    const plain = name.replace(SUFFIX, '');
    // A node in blocked channels is called after the value that it gives.
    const node = known.get(name) ?? known.get(plain) ?? giver.get(plain);
    const data = dtypes.get(inputs[0] ?? '') ?? 'float32';
    const precision = precisionOf(op, data);
    const output = op === 'QuantizeLinear' ? (dtypes.get(inputs[2] ?? '') ?? 'uint8') : op === 'DequantizeLinear' ? 'float32' : precision;
    for (const id of outputs) if (!dtypes.has(id)) dtypes.set(id, output);
    // Named after an activation, a convolution has done the work before it too.
    const before = node && node.op !== 'Conv' && CONVOLUTION.test(op) ? giver.get(node.inputs[0]!) : undefined;
    const done = [before, node].filter((some) => some !== undefined);
    const costs = done.map((some) => nodeCost(graph, some));
    const sum = (of: 'flops' | 'bytes'): number => costs.reduce((total, cost) => total + cost[of], 0);
    return { name, kind: op, precision, origins: done.length === 0 ? [] : unionOrigins(...done), flops: sum('flops'), bytes: sum('bytes') };
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
