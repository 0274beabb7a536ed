/**
 * Q/DQ as exporters write it, completed to the form that integer kernels are found in.
 *
 * Quantizers differ in what they leave out: onnxruntime's own writes scalars, int32 biases and no ReLU before a grid that starts at zero;
 * TensorRT's and PyTorch's leave biases in float, and the ReLU before a symmetric grid. Every rule keeps the values, but for the bias,
 * whose step is far below that of the sums that it is added to.
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import type { AnyNode, Graph, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { type DType, elementCount, fromNumbers, toNumbers } from '../ir/tensor.ts';
import { type Grid, gridOf, gridRange } from './linear-grid.ts';
import { applyRules, type Pass, type Rule } from './pass.ts';

/** The node with other inputs. */
function rewire<K extends OpKind>(node: Node<K>, inputs: readonly ValueId[], edit: GraphEditor): void {
  edit.replaceNode(node as unknown as AnyNode, { op: node.op, inputs, attrs: node.attrs, origins: node.origins });
}

const PLAIN = { axis: 1, block_size: 0 } as const;

// one scale in a vector of one = a scalar: onnxruntime's QLinearAdd takes only that
function scalarScale(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QuantizeLinear' && node.op !== 'DequantizeLinear') return false;
  const wanted = node.inputs.map((id, index) => {
    const tensor = index === 0 ? undefined : edit.constant(id);
    return tensor && tensor.dims.length > 0 && elementCount(tensor.dims) === 1 ? { ...tensor, dims: [] } : undefined;
  });
  if (node.attrs.block_size !== 0 || wanted.every((tensor) => !tensor)) return false;
  const inputs = node.inputs.map((id, index) => (wanted[index] ? edit.addConstant(wanted[index], id) : id));
  rewire(node, inputs, edit);
  return true;
}

// no zero point = zero, written out: fused kernels take their operands by position
function explicitZero(node: AnyNode, edit: GraphEditor): boolean {
  if ((node.op !== 'QuantizeLinear' && node.op !== 'DequantizeLinear') || node.inputs[2]) return false;
  const dtype = edit.type(node.op === 'QuantizeLinear' ? node.outputs[0]! : node.inputs[0]!).dtype;
  if (dtype !== 'int8' && dtype !== 'uint8' && dtype !== 'int32') return false;
  const { dims } = edit.type(node.inputs[1]!);
  const zero = edit.addConstant(fromNumbers(dtype, dims, new Uint8Array(elementCount(dims))), `${node.name}_zero_point`);
  rewire(node, [...node.inputs.slice(0, 2), zero], edit);
  return true;
}

/** The interval to which an activation clips; undefined for any other node. */
function clipped(node: AnyNode | undefined, edit: GraphEditor): readonly [number, number] | undefined {
  if (node?.op === 'Relu') return [0, Number.POSITIVE_INFINITY];
  if (node?.op !== 'Clip') return undefined;
  const bound = (index: number, none: number): number | undefined => {
    const id = node.inputs[index];
    if (!id) return none;
    const tensor = edit.constant(id);
    return tensor && toNumbers(tensor)[0];
  };
  const [low, high] = [bound(1, Number.NEGATIVE_INFINITY), bound(2, Number.POSITIVE_INFINITY)];
  return low === undefined || high === undefined || low > 0 || high < 0 ? undefined : [low, high];
}

/** A quantization and the activation that only it reads. */
function activated(node: AnyNode, edit: GraphEditor): { readonly grid: Grid; readonly activation: AnyNode; readonly interval: readonly [number, number] } | undefined {
  const activation = node.op === 'QuantizeLinear' ? edit.producer(node.inputs[0]) : undefined;
  const [grid, interval] = [gridOf(node, edit), clipped(activation, edit)];
  if (!activation || !grid || !interval || edit.onlyConsumer(activation.outputs[0]!) !== node) return undefined;
  return { grid, activation, interval };
}

// Q(clip(x)) = Q(x), for a grid within the interval
function saturates(node: AnyNode, edit: GraphEditor): boolean {
  const found = activated(node, edit);
  if (!found) return false;
  const [low, high] = gridRange(found.grid);
  if (low < found.interval[0] || high > found.interval[1]) return false;
  requantize(node, found.activation.inputs[0]!, found.activation, edit);
  return true;
}

const PRODUCTS: ReadonlySet<string> = new Set(['Conv', 'Gemm', 'MatMul', 'Add']);

// Q(clip(y)) = Q(clip(DQ(Q(y)))), for one grid: rounding is monotonic, so that it may come first
function roundsFirst(node: AnyNode, edit: GraphEditor): boolean {
  const found = activated(node, edit);
  if (!found) return false;
  const { activation } = found;
  const source = edit.producer(activation.inputs[0]);
  if (!source || !PRODUCTS.has(source.op) || edit.onlyConsumer(source.outputs[0]!) !== activation) return false;
  if (!source.inputs.slice(0, 2).every((id) => edit.producer(id)?.op === 'DequantizeLinear')) return false;
  const grid = node.inputs.slice(1);
  const name = source.outputs[0]!;
  const integers = edit.add({ op: 'QuantizeLinear', inputs: [name, ...grid], attrs: quantizeAttrs(node), origins: [], name: `${name}_QuantizeLinear`, type: edit.type(node.outputs[0]!) });
  const real = edit.add({ op: 'DequantizeLinear', inputs: [integers, ...grid], attrs: PLAIN, origins: [], name: `${name}_DequantizeLinear`, type: edit.type(name) });
  rewire(activation, [real, ...activation.inputs.slice(1)], edit);
  return true;
}

function quantizeAttrs(node: AnyNode) {
  if (node.op !== 'QuantizeLinear') throw new Error(`${node.op} is no quantization`);
  return node.attrs;
}

function requantize(node: AnyNode, source: ValueId, gone: AnyNode, edit: GraphEditor): void {
  edit.replaceNode(node, { op: 'QuantizeLinear', inputs: [source, ...node.inputs.slice(1)], attrs: quantizeAttrs(node), origins: unionOrigins(gone, node) });
}

/** Sums keep room beside the bias in int32. */
const MAX_BIAS = 2 ** 30;

/** A bias that is not on the grid of the sums, as real numbers: a float constant, or integers with another step. */
function looseBias(id: ValueId | undefined, steps: readonly number[], edit: GraphEditor): readonly number[] | undefined {
  const plain = edit.constant(id);
  if (plain) return plain.dtype === 'float32' ? toNumbers(plain) : undefined;
  const node = edit.producer(id);
  if (node?.op !== 'DequantizeLinear' || node.attrs.block_size !== 0) return undefined;
  const [integers, scale, zero] = node.inputs.map((input) => edit.constant(input));
  if (!integers || scale?.dtype !== 'float32' || (node.inputs[2] && !(zero && toNumbers(zero).every((value) => value === 0)))) return undefined;
  const scales = toNumbers(scale);
  const scaleAt = (i: number): number => scales[scales.length === 1 ? 0 : i]!;
  if (steps.every((step, i) => Math.abs(scaleAt(i) - step) <= 1e-6 * step)) return undefined;
  return toNumbers(integers).map((value, i) => value * scaleAt(i));
}

// conv(DQ(x), DQ(w)) + b = conv(DQ(x), DQ(w)) + DQ(round(b / (sx·sw))), to half a step of the sums
function integerBias(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Conv' && !(node.op === 'Gemm' && node.attrs.alpha === 1 && node.attrs.beta === 1)) return false;
  const [x, w, b] = node.inputs;
  const [data, weights] = [edit.producer(x), edit.producer(w)];
  const grid = data?.op === 'DequantizeLinear' ? gridOf(data, edit) : undefined;
  const given = weights?.op === 'DequantizeLinear' && weights.attrs.block_size === 0 ? edit.constant(weights.inputs[1]) : undefined;
  const columns = edit.type(node.outputs[0]!).dims[1]!;
  if (!b || !grid || given?.dtype !== 'float32' || elementCount(edit.type(b).dims) !== columns) return false;
  const scales = toNumbers(given);
  if (scales.length !== 1 && scales.length !== columns) return false;
  const steps = Array.from({ length: columns }, (_, i) => Math.fround(grid.scale * scales[scales.length === 1 ? 0 : i]!));
  const bias = looseBias(b, steps, edit);
  if (!bias?.every((value, i) => Math.abs(value) < MAX_BIAS * steps[i]!)) return false;
  const constant = (dtype: DType, values: readonly number[], hint: string): ValueId => edit.addConstant(fromNumbers(dtype, [columns], values), `${node.name}_bias_${hint}`);
  const inputs = [
    constant('int32', bias.map((value, i) => Math.round(value / steps[i]!)), 'quantized'),
    constant('float32', steps, 'scale'),
    constant('int32', steps.map(() => 0), 'zero_point'),
  ];
  const type = { dtype: 'float32', dims: [columns] } as const;
  rewire(node as Node, [x!, w!, edit.add({ op: 'DequantizeLinear', inputs, attrs: { axis: 0, block_size: 0 }, origins: [], name: `${node.name}_bias_DequantizeLinear`, type })], edit);
  return true;
}

const RULES: readonly Rule[] = [
  { name: 'scalar-scale', ops: ['QuantizeLinear', 'DequantizeLinear'], rewrite: scalarScale },
  { name: 'explicit-zero', ops: ['QuantizeLinear', 'DequantizeLinear'], rewrite: explicitZero },
  { name: 'saturates', ops: ['QuantizeLinear'], rewrite: saturates },
  { name: 'rounds-first', ops: ['QuantizeLinear'], rewrite: roundsFirst },
  { name: 'integer-bias', ops: ['Conv', 'Gemm'], rewrite: integerBias },
];

export const completeQdq: Pass = {
  name: 'complete-qdq',
  summary: 'quantization as exporters write it, in the form that onnxruntime fuses',
  targets: ['onnx'],
  basic: true,
  run: (graph) => applyRules(graph, RULES),
};

// Q(x; int8, z) and DQ(q; int8, z) = the same with uint8 and z + 128
function unsigned(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QuantizeLinear' || node.attrs.output_dtype !== undefined) return false;
  const [grid, output] = [gridOf(node, edit), node.outputs[0]!];
  const readers = edit.consumers(output);
  const alike = readers.every((reader) => reader.op === 'DequantizeLinear' && gridOf(reader, edit)?.zero === grid?.zero);
  if (grid?.dtype !== 'int8' || edit.isOutput(output) || readers.length === 0 || !alike) return false;
  const zero = edit.addConstant(fromNumbers('uint8', [], [grid.zero + 128]), `${node.inputs[2] ?? node.name}_unsigned`);
  const { origins, attrs } = node;
  const integers = edit.add({ op: 'QuantizeLinear', inputs: [...node.inputs.slice(0, 2), zero], attrs, origins, name: node.name, type: { ...edit.type(output), dtype: 'uint8' } });
  for (const reader of readers) rewire(reader as Node, [integers, reader.inputs[1]!, zero], edit);
  return true;
}

/** Activations in uint8, which is what onnxruntime's kernels for processors want: those in int8 it changes by itself, but not where two nodes read them. */
export function unsignedActivations(graph: Graph): Graph {
  return applyRules(graph, [{ name: 'unsigned', ops: ['QuantizeLinear'], rewrite: unsigned }]).graph;
}
