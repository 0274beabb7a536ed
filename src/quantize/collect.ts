/**
 * The collector: observers for every tensor of a calibration, fed batch by batch, and what they make in the end.
 */
import { typeOf, type Graph, type ValueId } from '../ir/graph.ts';
import { elementCount, sameDims, typedView, type Dims, type Tensor } from '../ir/tensor.ts';
import type { TensorCalibration } from './calibration.ts';
import { calibrateRange, type CalibratorOptions } from './calibrators.ts';
import { depthwiseInputs, filterPower } from './channel-scales.ts';
import { channelGrid, type ChannelGrid, type ChannelSpread, createChannelSpread } from './channel-spread.ts';
import { type Gate, gatesBehind } from './gates.ts';
import { createObserver, type Distribution } from './observer.ts';
import type { Range } from './params.ts';
import type { Placement } from './placement.ts';

export interface Collector {
  /** Values of the tensors asked for, by name. Of a batch, `count` samples are counted; a tensor without the batch as its first axis counts whole. */
  add(values: ReadonlyMap<ValueId, Tensor>, samples: { readonly count: number; readonly batch: number }): void;
  result(options: CalibratorOptions): Readonly<Record<ValueId, TensorCalibration>>;
  distributions(): ReadonlyMap<ValueId, Distribution>;
}

/**
 * Values that a calibration of this graph must see, in the graph's order. Those that share another's grid are among them: they
 * need one of their own once the node before them is kept in float.
 */
export function observedValues(graph: Graph, { quantized }: Placement): readonly ValueId[] {
  return [...graph.types.keys()].filter((id) => quantized.has(id));
}

/** Values whose channels' means bias correction asks for. */
export function productInputs(graph: Graph, { roles }: Placement): ReadonlySet<ValueId> {
  return new Set(graph.nodes.filter((node) => roles.get(node.name) === 'product').map((node) => node.inputs[0]!));
}

export function createCollector(graph: Graph, placement: Placement): Collector {
  const means = productInputs(graph, placement);
  const gates = gatesBehind(graph);
  const observers = new Map(observedValues(graph, placement).map((id) => [id, createObserver()]));
  const channels = new Map<ValueId, ChannelSums>();
  const depthwise = depthwiseInputs(graph, placement);
  const spreads = new Map([...depthwise.keys()].map((id): [ValueId, ChannelSpread] => [id, createChannelSpread(typeOf(graph, id).dims[1]!)]));
  const gridByChannel = (id: ValueId, range: Range, { scheme }: CalibratorOptions): ChannelGrid | undefined => {
    const spread = spreads.get(id);
    return spread && channelGrid(spread, filterPower(graph, depthwise.get(id)!, typeOf(graph, id).dims[1]!), range, scheme);
  };
  return {
    add(values, { count, batch }) {
      for (const [id, tensor] of values) {
        const { data, dims } = realPart(tensor, typeOf(graph, id).dims, count, batch);
        observers.get(id)?.add(data);
        if (means.has(id)) addChannels(channels, id, data, dims);
        spreads.get(id)?.add(data, dims);
      }
    },
    result: (options) =>
      Object.fromEntries(
        [...observers].map(([id, observer]) => {
          const described = describe(observer.distribution(), channels.get(id), options, gates.get(id));
          const byChannel = gridByChannel(id, described.range, options);
          return [id, { ...described, ...(byChannel && { channels: { factors: [...byChannel.factors], range: byChannel.range } }) }];
        }),
      ),
    distributions: () => new Map([...observers].map(([id, observer]) => [id, observer.distribution()])),
  };
}

/** The first `count` samples of a batch; the rest is padding. */
function realPart(tensor: Tensor, declared: Dims, count: number, batch: number): { readonly data: Float32Array; readonly dims: Dims } {
  if (!sameDims(tensor.dims, declared)) throw new Error(`observed [${tensor.dims.join(',')}] where the graph has [${declared.join(',')}]`);
  const data = typedView(tensor) as Float32Array;
  if (count === batch || tensor.dims[0] !== batch) return { data, dims: tensor.dims };
  const dims = [count, ...tensor.dims.slice(1)];
  return { data: data.subarray(0, elementCount(dims)), dims };
}

interface ChannelSums {
  readonly sums: Float64Array;
  perChannel: number;
}

/** Channels are axis 1 of images, and the last axis of matrices. */
function addChannels(all: Map<ValueId, ChannelSums>, id: ValueId, data: Float32Array, dims: Dims): void {
  const axis = dims.length > 2 ? 1 : dims.length - 1;
  const channels = dims[axis] ?? 1;
  const inner = elementCount(dims.slice(axis + 1));
  const entry = all.get(id) ?? { sums: new Float64Array(channels), perChannel: 0 };
  all.set(id, entry);
  for (let start = 0, channel = 0; start < data.length; start += inner, channel = (channel + 1) % channels) {
    let sum = 0;
    for (let i = start; i < start + inner; i++) sum += data[i]!;
    entry.sums[channel]! += sum;
  }
  entry.perChannel += data.length / channels;
}

function describe(distribution: Distribution, channels: ChannelSums | undefined, options: CalibratorOptions, gate: Gate | undefined): TensorCalibration {
  const range = calibrateRange(distribution, options, gate);
  return {
    range,
    seen: { low: distribution.min, high: distribution.max },
    bulk: bulkOf(distribution),
    clippedShare: shareOutside(distribution, range),
    ...(channels && { channelMeans: Array.from(channels.sums, (sum) => Number((sum / channels.perChannel).toPrecision(7))) }),
  };
}

export function bulkOf(distribution: Distribution): Range {
  return calibrateRange(distribution, { method: 'percentile', scheme: 'affine', percentile: 99.9 });
}

/** Share of the values that a range cuts off, to the width of a bin. */
export function shareOutside({ positive, negative, limit, count }: Distribution, { low, high }: Range): number {
  if (count === 0) return 0;
  const beyond = (side: Float64Array, magnitude: number): number => {
    let sum = 0;
    // The bin that holds the bound counts as inside.
    for (let bin = Math.floor((magnitude / limit) * side.length) + 1; bin < side.length; bin++) sum += side[bin]!;
    return sum;
  };
  return (beyond(positive, Math.max(0, high)) + beyond(negative, Math.max(0, -low))) / count;
}
