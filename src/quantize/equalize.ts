/**
 * Cross-layer equalization: channels between two products get alike ranges, without a change of what the network computes.
 *
 * For W₂·f(W₁·x + b₁), with f(s·y) = s·f(y) for positive s channel by channel, W₁ and b₁ divided by sᵢ and W₂'s input channel i
 * multiplied by it give the same. sᵢ = √(r₁ᵢ / r₂ᵢ), of the largest weights r₁ᵢ and r₂ᵢ of the channel on both sides, makes them equal.
 * Pairs in a row pull at each other, so it is repeated. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
 * Correction", 2019, section 4.1. ReLU6 is no such f: where it lies between, channels stay.
 */
import { GraphEditor } from '../ir/edit.ts';
import { consumers, type AnyNode, type Graph, type Node, type ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { elementCount, fromNumbers, toNumbers, type Dims } from '../ir/tensor.ts';

/** Ops between, channel by channel and positively homogeneous. */
const THROUGH: ReadonlySet<OpKind> = new Set<OpKind>(['AveragePool', 'GlobalAveragePool', 'LeakyRelu', 'MaxPool', 'Relu']);

const SWEEPS = 20;
/** A sweep that changes no scale by more than this is the last. */
const SETTLED = 1e-3;
/** A pair's factor stays within this and its reciprocal in all: channels that are nearly dead would ask for any. */
const MOST = 2 ** 10;

interface Pair {
  readonly first: Node<'Conv'>;
  readonly second: Node<'Conv'>;
}

/** The graph with equalized weights; names stay. `pairs` counts the products that were balanced. */
export function equalize(graph: Graph): { readonly graph: Graph; readonly pairs: number } {
  const pairs = pairsOf(graph);
  const weights = new Map<string, Float64Array>();
  const biases = new Map<string, Float64Array>();
  for (const node of pairs.flatMap(({ first, second }) => [first, second])) {
    weights.set(node.name, Float64Array.from(toNumbers(graph.constants.get(node.inputs[1]!)!)));
    if (node.inputs[2]) biases.set(node.name, Float64Array.from(toNumbers(graph.constants.get(node.inputs[2])!)));
  }
  const factors = pairs.map(({ first }) => new Float64Array(graph.constants.get(first.inputs[1]!)!.dims[0]!).fill(1));
  for (let sweep = 0, moved = Number.POSITIVE_INFINITY; sweep < SWEEPS && moved > SETTLED; sweep++) {
    moved = Math.max(0, ...pairs.map((pair, i) => balance(pair, graph, weights, biases, factors[i]!)));
  }
  return { graph: written(graph, weights, biases), pairs: pairs.length };
}

function pairsOf(graph: Graph): Pair[] {
  const readers = consumers(graph);
  const onlyReader = (id: ValueId): AnyNode | undefined => (graph.outputs.includes(id) || readers.get(id)?.length !== 1 ? undefined : readers.get(id)![0]);
  return graph.nodes.flatMap((first) => {
    if (!isConv(first, graph)) return [];
    let next = onlyReader(first.outputs[0]!);
    while (next && THROUGH.has(next.op) && next.outputs.length === 1) next = onlyReader(next.outputs[0]!);
    return next && isConv(next, graph) && next.inputs.lastIndexOf(next.inputs[0]!) === 0 ? [{ first, second: next }] : [];
  });
}

function isConv(node: AnyNode, graph: Graph): node is Node<'Conv'> {
  if (node.op !== 'Conv') return false;
  return node.inputs.slice(1).every((id) => !id || graph.constants.get(id)?.dtype === 'float32');
}

/** Balances one pair; gives the largest change of a factor, as a share. `total` holds what each channel was multiplied by in all. */
function balance({ first, second }: Pair, graph: Graph, weights: ReadonlyMap<string, Float64Array>, biases: ReadonlyMap<string, Float64Array>, total: Float64Array): number {
  const [w1, w2, b1] = [weights.get(first.name)!, weights.get(second.name)!, biases.get(first.name)];
  const dims = (node: AnyNode): Dims => graph.constants.get(node.inputs[1]!)!.dims;
  const perOutput = w1.length / dims(first)[0]!;
  const channelOf = inputChannels(dims(second), second.attrs.group);
  const [r1, r2] = [new Float64Array(total.length), new Float64Array(total.length)];
  for (const [i, value] of w1.entries()) r1[Math.floor(i / perOutput)] = Math.max(r1[Math.floor(i / perOutput)]!, Math.abs(value));
  for (const [i, value] of w2.entries()) r2[channelOf(i)] = Math.max(r2[channelOf(i)]!, Math.abs(value));
  const scale = total.map((before, i) => {
    const wanted = r1[i]! > 0 && r2[i]! > 0 ? Math.sqrt(r1[i]! / r2[i]!) : 1;
    return Math.min(MOST / before, Math.max(1 / (MOST * before), wanted));
  });
  for (let i = 0; i < w1.length; i++) w1[i]! /= scale[Math.floor(i / perOutput)]!;
  for (let i = 0; i < (b1?.length ?? 0); i++) b1![i]! /= scale[i]!;
  for (let i = 0; i < w2.length; i++) w2[i]! *= scale[channelOf(i)]!;
  for (let i = 0; i < total.length; i++) total[i]! *= scale[i]!;
  return Math.max(0, ...scale.map((value) => Math.abs(value - 1)));
}

/** From an element of weights [out, in / groups, kernel…] to the input channel that it multiplies. */
function inputChannels(dims: Dims, groups: number): (element: number) => number {
  const [outputs, inputs] = dims as [number, number];
  const taps = elementCount(dims.slice(2));
  return (element) => Math.floor((Math.floor(element / (inputs * taps)) * groups) / outputs) * inputs + (Math.floor(element / taps) % inputs);
}

function written(graph: Graph, weights: ReadonlyMap<string, Float64Array>, biases: ReadonlyMap<string, Float64Array>): Graph {
  const edit = new GraphEditor(graph);
  for (const [name, values] of weights) {
    const node = edit.node(name) as Node<'Conv'>;
    const [x, w, b = ''] = node.inputs as [ValueId, ValueId, ValueId?];
    const constant = (id: ValueId, numbers: Float64Array): ValueId => edit.addConstant(fromNumbers('float32', edit.constant(id)!.dims, numbers), `${id}_equalized`);
    const inputs = [x, constant(w, values), b && constant(b, biases.get(name)!)];
    edit.replaceNode(node as unknown as AnyNode, { op: 'Conv', inputs, attrs: node.attrs, origins: node.origins });
  }
  return edit.finish();
}
