/**
 * Inner engines of the packed matrix kernel: they multiply a staged block into accumulators of their own and write these to the
 * slab. Staged rows of A and of B are vectors along the depth, `pitch` apart, in the workgroup array `tile`; those of A overlap where they slide.
 */
import type { LeftTile, PackedElement, PackedTactic, Slab } from '../../tactics/packed.ts';
import { leftTileOf, packedInvocations, rowPitch, slabOf, VECTOR_ELEMENTS } from '../../tactics/packed.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';

/** Left rows in device memory whose matrices an engine keeps; lengths are in vectors. */
export interface HeldRows {
  readonly count: number;
  /** By the names of their bindings: row `r` of a part has its depths from `offset + r · stride` on, and the part begins at a depth of the whole. */
  readonly parts: readonly { readonly name: string; readonly offset: number; readonly stride: number; readonly begin: number; readonly depth: number }[];
}

export interface Engine {
  /** Where column `n` of B is staged, if not at row `n`. */
  readonly columnSlot: ((column: string) => string) | undefined;
  /** The subgroup size to ask for. */
  readonly subgroupSize: number | undefined;
  /** Declares what the module needs. */
  declare(module: ModuleBuilder): void;
  /** Emits the accumulators, zero, and where the invocation's results lie. */
  begin(block: Block): void;
  /** Emits loads of the left rows that stay in registers, from the row `tile_row` on. */
  hold(block: Block, rows: HeldRows): void;
  /** Emits that the accumulators are zero again. */
  clear(block: Block): void;
  /** Emits the products of a staged block; `base` is its first vector, '' or `name + `. */
  multiply(block: Block, base: string): void;
  /** Emits stores of one round's accumulators to the slab. */
  spill(block: Block, round: number): void;
  /** Rows of the slab that are neighbours in the tile, and the tile's rows from one such run to the next; a round begins where the last one ended. */
  readonly run: { readonly rows: number; readonly step: number };
}

/** What engines share: the geometry of a tactic. */
export interface Geometry {
  readonly tactic: PackedTactic;
  readonly element: PackedElement;
  readonly pitch: number;
  /** Where the rows of A are, which are `pitch` apart unless they slide. */
  readonly left: LeftTile;
  readonly threads: number;
  readonly slab: Slab;
  /** Elements in a vector. */
  readonly lanes: number;
  /** First vector of the B tile. */
  readonly bBegin: number;
}

export function geometryOf(tactic: PackedTactic, element: PackedElement): Geometry {
  const left = leftTileOf(tactic);
  return {
    tactic,
    element,
    pitch: rowPitch(tactic),
    left,
    threads: packedInvocations(tactic),
    slab: slabOf(tactic),
    lanes: VECTOR_ELEMENTS[element],
    bBegin: left.vectors,
  };
}
