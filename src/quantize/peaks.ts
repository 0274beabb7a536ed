/**
 * The largest magnitude of values that no grid needs, by which a build in halves knows what no half holds: a norm's sum of squares, the residual
 * stream of a transformer. One number of each leaves the run, made by two nodes beside the graph's own.
 */
import { freshName } from '../ir/build.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { elementCount, HALF_MAX, type Tensor, type TensorType, toNumbers } from '../ir/tensor.ts';

export interface Peaks {
  /** The graph with a scalar for each of the values. */
  readonly graph: Graph;
  /** The scalars, to be asked for. */
  readonly outputs: readonly ValueId[];
  /** Values of a run of {@link outputs}. */
  add(values: ReadonlyMap<ValueId, Tensor>): void;
  /** The values that reached beyond the largest half, in the graph's order. */
  beyondHalf(): readonly ValueId[];
}

/** For every f32 value that the graph computes, but for those that are `observed` whole. */
export function watchPeaks(graph: Graph, observed: ReadonlySet<ValueId>): Peaks {
  const types = new Map<ValueId, TensorType>(graph.types);
  const taken = new Set(types.keys());
  const scalar = { dtype: 'float32', dims: [] } as const;
  const watched = new Map<ValueId, ValueId>();
  const nodes = graph.nodes.flatMap(({ outputs }) => outputs).flatMap((id): AnyNode[] => {
    const type = id === '' ? undefined : types.get(id);
    if (type?.dtype !== 'float32' || observed.has(id) || graph.constants.has(id) || elementCount(type.dims) === 0) return [];
    const [size, peak] = [freshName(taken, `${id}_size`), freshName(taken, `${id}_peak`)];
    types.set(size, type).set(peak, scalar);
    watched.set(peak, id);
    return [
      { op: 'Abs', name: size, inputs: [id], outputs: [size], attrs: {}, origins: [] },
      { op: 'ReduceMax', name: peak, inputs: [size], outputs: [peak], attrs: { keepdims: 0, noop_with_empty_axes: 0 }, origins: [] },
    ];
  });
  const beyond = new Set<ValueId>();
  return {
    graph: { ...graph, types, nodes: [...graph.nodes, ...nodes] },
    outputs: [...watched.keys()],
    add(values) {
      for (const [peak, id] of watched) {
        const tensor = values.get(peak);
        if (tensor && toNumbers(tensor)[0]! > HALF_MAX) beyond.add(id);
      }
    },
    beyondHalf: () => [...watched.values()].filter((id) => beyond.has(id)),
  };
}
