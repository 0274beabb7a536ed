/**
 * The Q/DQ writer: a float graph and a grid per value become a graph with QuantizeLinear and DequantizeLinear around every
 * int8 node, in the form that onnxruntime, TensorRT and OpenVINO turn into integer kernels.
 *
 * Weights are int8 constants behind a DequantizeLinear per output channel, biases int32. An activation that the saturation
 * of its grid performs is left out.
 */
import type { GraphBuilder } from '../ir/build.ts';
import { unionOrigins } from '../ir/edit.ts';
import { consumers, typeOf, type AnyNode, type Graph, type ValueId } from '../ir/graph.ts';
import { fromNumbers, typedView, type Tensor } from '../ir/tensor.ts';
import { newGraphBuilder } from '../ops/builder.ts';
import { coveredRange, paramsOf, quantize, type QuantParams, type Range, type Scheme } from './params.ts';
import type { OffGrid } from './off-grid.ts';
import { dataInputs, type Placement } from './placement.ts';
import { biasShift, quantizeBias, type QuantizedWeights, quantizeWeights, quantizeWith, weightScales } from './weights.ts';

export interface QdqOptions {
  /** Of the grids of constant operands; the others come with theirs. */
  readonly scheme: Scheme;
  readonly placement: Placement;
  /** A grid for each of the placement's quantized values. */
  readonly grids: ReadonlyMap<ValueId, QuantParams>;
  /** Means of a value's channels (axis 1, or the last of a matrix), for bias correction; none: no correction. */
  readonly channelMeans: ReadonlyMap<ValueId, ArrayLike<number>>;
  /** What stays off the grids that the placement has. */
  readonly offGrid: OffGrid;
}

export interface QdqResult {
  readonly graph: Graph;
  /** Activations that saturation performs. */
  readonly absorbed: number;
}

/** Writes the graph anew. Node names stay; so do the names of inputs and outputs. */
export function writeQdq(graph: Graph, options: QdqOptions): QdqResult {
  const writer = new Writer(graph, options);
  for (const node of graph.nodes) writer.write(node);
  return { graph: writer.finish(), absorbed: writer.absorbed };
}

class Writer {
  readonly #graph: Graph;
  readonly #options: QdqOptions;
  readonly #builder: GraphBuilder;
  readonly #readers: ReadonlyMap<ValueId, readonly AnyNode[]>;
  /** Values of the new graph that hold a value of the old one as it is; absent where only its int8 form is there. */
  readonly #floats = new Map<ValueId, ValueId>();
  readonly #dequantized = new Map<ValueId, ValueId>();
  readonly #integers = new Map<ValueId, ValueId>();
  /** Scale and zero point by grid. */
  readonly #gridIds = new Map<string, readonly [ValueId, ValueId]>();
  /** Nodes that came in with the node before them. */
  readonly #written = new Set<string>();
  absorbed = 0;

  constructor(graph: Graph, options: QdqOptions) {
    this.#graph = graph;
    this.#options = options;
    this.#builder = newGraphBuilder(graph.name);
    this.#readers = consumers(graph);
    // Names of the graph's own values stay free for them.
    for (const id of graph.types.keys()) this.#builder.fresh(id);
    for (const id of graph.inputs) {
      this.#builder.input(id, typeOf(graph, id));
      this.#floats.set(id, id);
    }
  }

  write(node: AnyNode): void {
    if (this.#written.has(node.name)) return;
    const role = this.#options.placement.roles.get(node.name);
    if (role === undefined) return this.#copy(node);
    const activation = this.#absorbable(node);
    const output = activation?.outputs[0] ?? node.outputs[0]!;
    const inputs = role === 'product' ? this.#productInputs(node) : this.#dataInputs(node);
    const onGrid = this.#isOnGrid(output);
    const raw = onGrid ? this.#builder.fresh(`${output}_float`) : output;
    this.#builder.nodeOutputs(node.op, inputs, node.attrs, {
      name: node.name,
      outputs: [raw],
      origins: activation ? unionOrigins(node, activation) : node.origins,
    });
    if (activation) {
      this.#written.add(activation.name);
      this.absorbed++;
    }
    if (onGrid) this.#quantizeValue(output, raw);
    else this.#floats.set(output, raw);
  }

  finish(): Graph {
    const { outputs } = this.#graph;
    for (const id of outputs) this.#float(id);
    return this.#builder.finish(outputs);
  }

  /** A node that stays as it is. */
  #copy(node: AnyNode): void {
    const inputs = node.inputs.map((id) => id && this.#float(id));
    const types = node.outputs.map((id) => typeOf(this.#graph, id || node.outputs.find(Boolean)!));
    this.#builder.nodeOutputs(node.op, inputs, node.attrs, { name: node.name, outputs: node.outputs, origins: node.origins, types });
    for (const id of node.outputs) if (id) this.#floats.set(id, id);
  }

  /** The float form of a value, for nodes that are not int8: as it is where that exists, or dequantized. */
  #float(id: ValueId): ValueId {
    const known = this.#floats.get(id);
    if (known) return known;
    const constant = this.#graph.constants.get(id);
    if (!constant) return this.#dequantize(id);
    const added = this.#builder.constant(constant, id);
    this.#floats.set(id, added);
    return added;
  }

  #dataInputs(node: AnyNode): ValueId[] {
    const data = dataInputs(node);
    return node.inputs.map((id) => (id && data.includes(id) && !this.#options.offGrid.unrounded.has(id) ? this.#dequantize(id) : id && this.#float(id)));
  }

  #isOnGrid(id: ValueId): boolean {
    return this.#options.placement.quantized.has(id) && !this.#options.offGrid.unrounded.has(id);
  }

  /** The dequantized form of a value, quantizing it first where it comes from a float node. */
  #dequantize(id: ValueId): ValueId {
    const known = this.#dequantized.get(id);
    if (known) return known;
    const params = this.#grid(id);
    const integer = this.#integers.get(id) ?? this.#quantizeValue(id, this.#floats.get(id));
    // An output of the graph keeps its name, where a float node does not give it already.
    const own = this.#graph.outputs.includes(id) && !this.#floats.has(id);
    const output = own ? id : this.#builder.fresh(`${id}_dequantized`);
    this.#builder.node('DequantizeLinear', [integer, ...this.#gridConstants(id, params)], { axis: 1, block_size: 0 }, {
      name: `${id}_DequantizeLinear`,
      outputs: [output],
      origins: [],
    });
    this.#dequantized.set(id, output);
    return output;
  }

  #quantizeValue(id: ValueId, float: ValueId | undefined): ValueId {
    const params = this.#grid(id);
    const constant = this.#graph.constants.get(id);
    const integer = constant ? this.#builder.constant(quantizeTensor(constant, params), `${id}_quantized`) : this.#builder.fresh(`${id}_quantized`);
    if (!constant) {
      if (!float) throw new Error(`'${id}' is read before it is written`);
      this.#builder.node(
        'QuantizeLinear',
        [float, ...this.#gridConstants(id, params)],
        { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined },
        { name: `${id}_QuantizeLinear`, outputs: [integer], origins: [] },
      );
    }
    this.#integers.set(id, integer);
    return integer;
  }

  /** Scale and zero point as constants; equal grids share theirs, which shows readers that nothing changes between them. */
  #gridConstants(id: ValueId, { dtype, scale, zeroPoint }: QuantParams): readonly [ValueId, ValueId] {
    const key = `${dtype} ${scale} ${zeroPoint}`;
    const known = this.#gridIds.get(key);
    if (known) return known;
    const ids = [
      this.#builder.constant(fromNumbers('float32', [], [scale]), this.#builder.fresh(`${id}_scale`)),
      this.#builder.constant(fromNumbers(dtype, [], [zeroPoint]), this.#builder.fresh(`${id}_zero_point`)),
    ] as const;
    this.#gridIds.set(key, ids);
    return ids;
  }

  #grid(id: ValueId): QuantParams {
    const constant = this.#graph.constants.get(id);
    if (constant) return paramsOf(rangeOf(constant), this.#options.scheme);
    const params = this.#options.grids.get(id);
    if (!params) throw new Error(`'${id}' has no grid`);
    return params;
  }

  /** Data, weights and bias of a product, each behind its DequantizeLinear. */
  #productInputs(node: AnyNode): ValueId[] {
    const [x = '', w = '', b = ''] = node.inputs;
    const data = this.#dequantize(x);
    const inputScale = this.#grid(x).scale;
    const weights = this.#graph.constants.get(w)!;
    const axis = node.op === 'Conv' || (node.op === 'Gemm' && node.attrs.transB === 1) ? 0 : 1;
    const bias = this.#bias(b);
    const quantized = this.#quantizedWeights(node, axis);
    const means = this.#options.channelMeans.get(x);
    const corrected = means && node.op !== 'MatMul' ? correct(bias, biasShift(weights, quantized, means, node.op === 'Conv' ? node.attrs.group : 1)) : bias;
    const inputs = [data, this.#perChannel(`${node.name}_weight`, quantized.values, quantized.scales, axis)];
    if (!corrected) return inputs;
    const integers = quantizeBias(corrected, inputScale, quantized.scales);
    return [...inputs, this.#perChannel(`${node.name}_bias`, integers.values, integers.scales, 0)];
  }

  #bias(id: ValueId): Float32Array | undefined {
    return id ? (typedView(this.#graph.constants.get(id)!) as Float32Array) : undefined;
  }

  /** On scales of its own, or on those that its sums have in common with its partner's. */
  #quantizedWeights(node: AnyNode, axis: number): QuantizedWeights {
    const [x = '', w = '', b = ''] = node.inputs;
    const inputScale = this.#grid(x).scale;
    const partner = this.#options.offGrid.partners.get(node.name);
    if (!partner) return quantizeWeights(this.#graph.constants.get(w)!, axis, inputScale, this.#bias(b));
    const [own, other] = [node, partner].map((each) => this.#sumScales(each)) as [Float64Array, Float64Array];
    return quantizeWith(this.#graph.constants.get(w)!, axis, Float32Array.from(own, (scale, channel) => Math.max(scale, other[channel]!) / inputScale));
  }

  /** The scales of a convolution's sums, if it had its own. */
  #sumScales({ inputs: [x = '', w = '', b = ''] }: AnyNode): Float64Array {
    const inputScale = this.#grid(x).scale;
    return Float64Array.from(weightScales(this.#graph.constants.get(w)!, 0, inputScale, this.#bias(b)), (scale) => scale * inputScale);
  }

  #perChannel(hint: string, values: Tensor, scales: Float32Array, axis: number): ValueId {
    const { dtype } = values;
    const inputs = [
      this.#builder.constant(values, this.#builder.fresh(`${hint}_quantized`)),
      this.#builder.constant(fromNumbers('float32', [scales.length], scales), this.#builder.fresh(`${hint}_scale`)),
      this.#builder.constant(fromNumbers(dtype, [scales.length], new Uint8Array(scales.length)), this.#builder.fresh(`${hint}_zero_point`)),
    ];
    return this.#builder.node('DequantizeLinear', inputs, { axis, block_size: 0 }, { name: `${hint}_DequantizeLinear`, outputs: [this.#builder.fresh(hint)], origins: [] });
  }

  /** The activation after a node that the grid of its output performs by saturating. */
  #absorbable(node: AnyNode): AnyNode | undefined {
    const { activations } = this.#options.placement;
    const activation = (this.#readers.get(node.outputs[0]!) ?? []).find((reader) => activations.has(reader.name));
    const output = activation?.outputs[0];
    if (!activation || !output || !this.#isOnGrid(output)) return undefined;
    return isWithin(coveredRange(this.#grid(output)), activations.get(activation.name)!) ? activation : undefined;
  }
}

/** Whether a grid reaches no further than an interval, but for the rounding of its scale. */
function isWithin(covered: Range, interval: Range): boolean {
  const slack = (covered.high - covered.low) * 1e-6;
  return covered.low >= interval.low - slack && covered.high <= interval.high + slack;
}

function correct(bias: Float32Array | undefined, shift: Float32Array): Float32Array {
  return shift.map((value, channel) => (bias?.[channel] ?? 0) - value);
}

function rangeOf(tensor: Tensor): Range {
  let low = 0;
  let high = 0;
  for (const value of typedView(tensor) as Float32Array) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return { low, high };
}

function quantizeTensor(tensor: Tensor, params: QuantParams): Tensor {
  const values = Array.from(typedView(tensor) as Float32Array, (value) => quantize(value, params));
  return fromNumbers(params.dtype, tensor.dims, values);
}
