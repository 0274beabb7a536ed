/** The buffers of concatenations while a graph is lowered: made when the first part is written, before the node's own turn. */
import { type Graph, typeOf, type ValueId } from '../../../ir/graph.ts';
import type { Dims, DType } from '../../../ir/tensor.ts';
import { type Storage, STORAGE_BYTES } from '../../../engine/plan.ts';
import { planPlacement, type Slot } from './placement.ts';
import type { DeviceTensor, Layout } from './tensor.ts';
import { alongAxis, windowOf } from './windows.ts';

export type Allocate = (dtype: DType, dims: Dims, layout: Layout, storage: Storage) => DeviceTensor;

export class Homes {
  readonly #graph: Graph;
  readonly #allocate: Allocate;
  readonly #slots: ReadonlyMap<ValueId, Slot>;
  /** Inputs of every concatenation, by its output. */
  readonly #parts: ReadonlyMap<ValueId, readonly ValueId[]>;
  readonly #made = new Map<ValueId, DeviceTensor>();

  constructor(graph: Graph, allocate: Allocate) {
    this.#graph = graph;
    this.#allocate = allocate;
    this.#slots = planPlacement(graph);
    this.#parts = new Map(graph.nodes.flatMap((node) => (node.op === 'Concat' ? [[node.outputs[0]!, node.inputs]] : [])));
  }

  /** The buffer of a concatenation into which a part of it was written. */
  of(concat: ValueId): DeviceTensor | undefined {
    return this.#made.get(concat);
  }

  /**
   * The window that a value is to be written into; undefined where it has no home, is held otherwise than its home, or the
   * home lies in one of the tensors `bound` that the value's kernel binds already.
   */
  place(id: ValueId, layout: Layout, storage: Storage, bound: ReadonlySet<number>): DeviceTensor | undefined {
    const slot = this.#slots.get(id);
    if (!slot || (slot.image && layout !== 'channels-last')) return undefined;
    const { dtype, dims } = typeOf(this.#graph, slot.concat);
    const extent = typeOf(this.#graph, id).dims[slot.axis]!;
    const home = this.#made.get(slot.concat) ?? this.place(slot.concat, layout, storage, bound) ?? this.#allocate(dtype, dims, layout, storage);
    if (home.layout !== layout || home.storage !== storage || bound.has(home.id)) return undefined;
    const window = windowOf(home, alongAxis(dims, slot.axis, { start: slot.start, step: 1, extent }));
    if (!window || !this.#canTakeAll(slot, home)) return undefined;
    this.#made.set(slot.concat, home);
    return window;
  }

  /** Narrow elements are written in whole vectors: all parts must then consist of these, or none may be written into place. */
  #canTakeAll({ concat, axis }: Slot, home: DeviceTensor): boolean {
    if (STORAGE_BYTES[home.storage] >= 4) return true;
    if (home.layout === 'linear') return false;
    const { dims } = home;
    const extents = this.#parts.get(concat)!.map((id) => typeOf(this.#graph, id).dims[axis]!);
    let start = 0;
    return extents.every((extent) => windowOf(home, alongAxis(dims, axis, { start: (start += extent) - extent, step: 1, extent })) !== undefined);
  }
}
