/** What computes the two products of the attention kernel: staged rows are vectors in the workgroup array `tile`. */
import type { AttentionMemory, AttentionTactic } from '../../tactics/attention.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';

export interface AttentionGeometry {
  readonly tactic: AttentionTactic;
  readonly memory: AttentionMemory;
  readonly element: 'f16' | 'f32';
  readonly threads: number;
  readonly depthV: number;
}

export interface AttentionEngine {
  /** The row of the block where a key is staged, if not its own. */
  readonly keySlot: ((key: string) => string) | undefined;
  /** Whether weights are written as halves at `weightPitch`; else as f32 where the scores were. */
  readonly halfWeights: boolean;
  /**
   * Whether results are costly to scale, so that it is done only where a row's maximum grew by much; the factors are then in
   * `factor` and every invocation comes along.
   */
  readonly rareScaling: boolean;
  readonly subgroupSize: number | undefined;
  declare(module: ModuleBuilder): void;
  /** Emits accumulators; the queries are staged. */
  begin(block: Block): void;
  /** Emits scores = q·kᵀ, stored at the beginning of `tile`. */
  scores(block: Block): void;
  /** Emits results *= factor[row]. */
  rescale(block: Block): void;
  /** Emits results += weights·v. */
  accumulate(block: Block): void;
  /** Emits a visit of all results, four at a time: row and column of the tile, and a vec4<f32>. */
  finish(block: Block, visit: (block: Block, row: string, column: string, value: string) => void): void;
}
