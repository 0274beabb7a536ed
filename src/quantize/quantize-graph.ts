/**
 * int8 for a whole graph: placement, grids and Q/DQ in one call, by a calibration.
 */
import type { Graph, ValueId } from '../ir/graph.ts';
import { observedValues, productInputs } from './collect.ts';
import type { Calibration } from './calibration.ts';
import { equalize } from './equalize.ts';
import { scaleChannels } from './channel-scales.ts';
import { gridsFor } from './grids.ts';
import { DEFAULT_POLICY, placeInt8, type Placement, productsOf } from './placement.ts';
import { writeQdq, type QdqResult } from './qdq.ts';
import type { Scheme } from './params.ts';
import { offGrid, ON_GRID } from './off-grid.ts';

export interface QuantizedGraph extends QdqResult {
  readonly placement: Placement;
}

export interface QuantizeOptions {
  /** Nodes that stay float in any case, by name. */
  readonly without?: ReadonlySet<string>;
  /**
   * For a runtime whose products compute what follows them before they write: two convolutions that are added get one scale, what stays in
   * registers no grid, and channels factors behind any activation. One that passes integers from op to op needs a grid for each.
   */
  readonly fused?: boolean;
}

/** The graph with Q/DQ around what runs in int8. `mixed` keeps the nodes that the calibration names. */
export function quantizeGraph(given: Graph, calibration: Calibration, precision: 'int8' | 'mixed', { without = new Set(), fused = false }: QuantizeOptions = {}): QuantizedGraph {
  const { scheme, quantization } = calibration;
  const { firstLayer, lastLayer, keep, biasCorrection } = quantization;
  const whole = quantization.equalization ? equalize(given).graph : given;
  const placed = placeInt8(whole, { scheme, firstLayer, lastLayer, keep: new Set([...(precision === 'mixed' ? keep : []), ...without]) });
  const { graph, placement, tensors } = scaleChannels(whole, placed, calibration.tensors, fused);
  const channelMeans = new Map<ValueId, readonly number[]>();
  if (biasCorrection) for (const [id, { channelMeans: means }] of Object.entries(tensors)) if (means) channelMeans.set(id, means);
  return { ...writeQdq(graph, { scheme, placement, grids: gridsFor(graph, placement, { scheme, tensors }), channelMeans, offGrid: fused ? offGrid(graph, placement) : ON_GRID }), placement };
}

/** A graph that is quantized part by part: what only the whole of it shows is settled. */
export interface Divisible {
  /** Equalized, where the calibration says so: a pair may be divided. */
  readonly graph: Graph;
  /** The calibration for {@link quantizeGraph} of each part. */
  readonly ranges: Calibration;
  /** Products that the calibration keeps float for being the first or last of the graph, by name. */
  readonly kept: ReadonlySet<string>;
}

/** Quantizing all of the graph as one part gives what {@link quantizeGraph} gives of it by the calibration itself. */
export function forParts(given: Graph, calibration: Calibration): Divisible {
  const { scheme, quantization } = calibration;
  const { firstLayer, lastLayer, equalization } = quantization;
  const graph = equalization ? equalize(given).graph : given;
  const inside = productsOf(placeInt8(graph, { ...DEFAULT_POLICY, scheme, firstLayer, lastLayer }));
  const kept = [...productsOf(calibrationPlacement(graph, scheme))].filter((name) => !inside.has(name));
  return { graph, ranges: { ...calibration, quantization: { ...quantization, equalization: false, firstLayer: 'int8', lastLayer: 'int8' } }, kept: new Set(kept) };
}

/** What a calibration of this graph must observe: every value that any choice of kept nodes could quantize. */
export function calibrationPlacement(graph: Graph, scheme: Scheme): Placement {
  return placeInt8(graph, { ...DEFAULT_POLICY, scheme });
}

/** Values to ask of a run for {@link calibrationPlacement}, the graph's inputs left out: who runs it has those. */
export function calibrationOutputs(graph: Graph, placement: Placement): readonly ValueId[] {
  const wanted = new Set([...observedValues(graph, placement), ...productInputs(graph, placement)]);
  for (const id of graph.inputs) wanted.delete(id);
  return [...wanted];
}
