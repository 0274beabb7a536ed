/**
 * Grids by channel in front of depthwise convolutions, with integer kernels that know one scale for a tensor: channels are multiplied by factors
 * before the grid, and each filter, which reads one channel, is divided by its own. Weights have a scale per output channel, so nothing is lost there.
 *
 * YOLOX-nano's first convolution gives channels that reach from 0.3 to 65, and what reads them has weights from 23 to 0.05: one grid has no step
 * for the small ones. Where the values come straight from a convolution or its ReLU, the factors are in its weights; the idea is that of Nagel et al.,
 * "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, with factors by what was seen of the values. Behind anything else
 * that is computed element by element they are a product with a constant, for a runtime that computes it before it writes.
 */
import { GraphEditor } from '../ir/edit.ts';
import { consumers, producers, typeOf, type AnyNode, type Graph, type Node, type ValueId } from '../ir/graph.ts';
import { fromNumbers, toNumbers, type Tensor } from '../ir/tensor.ts';
import { isElementwiseNode } from '../passes/expr-of.ts';
import type { TensorCalibration } from './calibration.ts';
import type { Placement } from './placement.ts';

type Tensors = Readonly<Record<ValueId, TensorCalibration>>;

export interface ScaledChannels {
  readonly graph: Graph;
  readonly placement: Placement;
  readonly tensors: Tensors;
}

/** Values with a grid of their own that nothing but depthwise int8 convolutions read, with these. */
export function depthwiseInputs(graph: Graph, { quantized, roles, sharedWith }: Placement): ReadonlyMap<ValueId, readonly Node<'Conv'>[]> {
  const shared = new Set([...sharedWith.keys(), ...sharedWith.values()]);
  const isDepthwise = (node: AnyNode, id: ValueId): node is Node<'Conv'> =>
    node.op === 'Conv' && roles.get(node.name) === 'product' && node.inputs[0] === id && node.attrs.group > 1 && node.attrs.group === typeOf(graph, id).dims[1];
  const found = new Map<ValueId, readonly Node<'Conv'>[]>();
  for (const [id, readers] of consumers(graph)) {
    if (!quantized.has(id) || shared.has(id) || graph.inputs.includes(id) || graph.outputs.includes(id)) continue;
    const depthwise = readers.filter((node) => isDepthwise(node, id)) as Node<'Conv'>[];
    if (depthwise.length === readers.length) found.set(id, depthwise);
  }
  return found;
}

/** Squared norms of the filters that read each channel. */
export function filterPower(graph: Graph, readers: readonly Node<'Conv'>[], channels: number): number[] {
  const power = Array.from({ length: channels }, () => 0);
  for (const { inputs } of readers) {
    const values = toNumbers(graph.constants.get(inputs[1]!)!);
    const perChannel = values.length / channels;
    for (const [i, value] of values.entries()) power[Math.floor(i / perChannel)]! += value ** 2;
  }
  return power;
}

/**
 * The graph with the factors that the calibration has, and placement and ranges to match; names of nodes stay. It computes what it did, but that an
 * upper bound to which channels are clipped is reached where their range ends. `fused`: for a runtime that multiplies before it writes.
 */
export function scaleChannels(graph: Graph, placement: Placement, tensors: Tensors, fused: boolean): ScaledChannels {
  const producer = producers(graph);
  const edit = new GraphEditor(graph);
  const quantized = new Set(placement.quantized);
  const scaled: Record<ValueId, TensorCalibration> = {};
  for (const [id, readers] of depthwiseInputs(graph, placement)) {
    const tensor = tensors[id];
    const source = producer.get(id);
    if (!tensor?.channels || !source) continue;
    const { factors, range } = tensor.channels;
    const conv = convolutionOf(source, producer, placement);
    let value = id;
    if (conv) multiplyOutputs(edit, conv, factors);
    else if (fused && isElementwiseNode(source)) {
      const constant = edit.addConstant(fromNumbers('float32', [1, factors.length, 1, 1].slice(0, typeOf(graph, id).dims.length), factors), `${id}_channel_factors`);
      value = edit.add({ op: 'Mul', name: `${id}_scaled`, inputs: [id, constant], attrs: {}, origins: source.origins, type: typeOf(graph, id) });
      quantized.delete(id);
      quantized.add(value);
    } else continue;
    for (const reader of readers) divideFilters(edit, reader, value, factors);
    scaled[value] = { ...tensor, range, ...(tensor.channelMeans && { channelMeans: tensor.channelMeans.map((mean, channel) => mean * factors[channel]!) }) };
  }
  return { graph: edit.finish(), placement: { ...placement, quantized }, tensors: { ...tensors, ...scaled } };
}

/** The int8 convolution that gives a value, or whose ReLU or ReLU6 does: f(s·y) = s·f(y) for positive s. */
function convolutionOf(source: AnyNode, producer: ReadonlyMap<ValueId, AnyNode>, { roles, activations }: Placement): Node<'Conv'> | undefined {
  const interval = activations.get(source.name);
  const before = interval ? producer.get(source.inputs[0]!) : source;
  return before?.op === 'Conv' && roles.get(before.name) === 'product' && (!interval || interval.low === 0) ? before : undefined;
}

function multiplyOutputs(edit: GraphEditor, { name }: AnyNode, factors: readonly number[]): void {
  const node = edit.node(name) as Node<'Conv'>;
  const [x, ...constants] = node.inputs as [ValueId, ...ValueId[]];
  replaceInputs(edit, node, [x, ...constants.map((id) => id && edit.addConstant(byChannel(edit.constant(id)!, (channel) => factors[channel]!, factors.length), `${id}_scaled`))]);
}

function divideFilters(edit: GraphEditor, { name }: AnyNode, value: ValueId, factors: readonly number[]): void {
  const node = edit.node(name) as Node<'Conv'>;
  const [, weights, ...bias] = node.inputs as [ValueId, ValueId, ...ValueId[]];
  replaceInputs(edit, node, [value, edit.addConstant(byChannel(edit.constant(weights)!, (channel) => 1 / factors[channel]!, factors.length), `${weights}_scaled`), ...bias]);
}

/** Times a factor for each of `channels` equal parts of the first axis. */
function byChannel(tensor: Tensor, factor: (channel: number) => number, channels: number): Tensor {
  const values = toNumbers(tensor);
  return fromNumbers('float32', tensor.dims, values.map((value, i) => value * factor(Math.floor((i * channels) / values.length))));
}

function replaceInputs(edit: GraphEditor, node: Node<'Conv'>, inputs: readonly ValueId[]): void {
  edit.replaceNode(node as unknown as AnyNode, { op: 'Conv', inputs, attrs: node.attrs, origins: node.origins });
}
