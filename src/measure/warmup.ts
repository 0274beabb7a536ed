/**
 * Warm-up until steady, not for a fixed count.
 *
 * What has to settle differs: JIT tiers and caches of a CPU within some runs; a GPU that idled needs 200–350 ms of continuous
 * load to raise its clocks, and a burst timed before that is several times too slow. So the executions go on, block after
 * block, until a minimum has passed and the last blocks agree (stats/steady.ts), and end at a bound in any case.
 */
import type { DeviceInfo } from '../backends/backend.ts';
import type { Round } from '../results/record.ts';
import { blocksAgree } from '../stats/steady.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import type { TimeSource } from './clock.ts';

export interface WarmupPolicy {
  /** Continuous load before steadiness is considered. */
  readonly minMs: number;
  readonly minExecutions: number;
  /** The warm-up ends here, steady or not. */
  readonly maxMs: number;
  /** Executions are compared in blocks of this length. */
  readonly blockMs: number;
  /** Relative difference of block medians that counts as none. */
  readonly tolerance: number;
}

/** Consecutive blocks that must agree. */
const AGREEING_BLOCKS = 3;

/** Bounds the warm-up on a clock that does not move. */
const MAX_STEPS = 20_000;

/** Policies by kind of device. A simulated device is treated as a CPU. */
export function warmupPolicy(kind: DeviceInfo['kind'], maxMs: number): WarmupPolicy {
  const policy = { minExecutions: 3, tolerance: 0.03, maxMs };
  switch (kind) {
    case 'gpu':
      return { ...policy, minMs: 500, blockMs: 100 };
    case 'cpu':
    case 'fake':
      return { ...policy, minMs: 100, blockMs: 25 };
    default:
      return kind satisfies never;
  }
}

/**
 * Longest warm-up of a process that takes turns with another: a restless machine never looks steady, and what is unsettled after
 * this falls on both of them.
 */
export const WARMUP_BEFORE_TURNS_MS = { cpu: 300, fake: 300, gpu: 1000 } as const satisfies Record<DeviceInfo['kind'], number>;

export interface Warmup {
  readonly reading: Round['warmup'];
  /** Time of one execution (on every lane at once): the smallest median of the last blocks. */
  readonly executionNs: number;
}

/**
 * Warms up with `step(repeat)`, which executes `repeat` times in a row (on every lane at once, where there are several).
 * Steps shorter than `minStepNs` are lengthened by repeating.
 */
export async function warmUp(
  step: (repeat: number) => Promise<void>,
  clock: TimeSource,
  policy: WarmupPolicy,
  minStepNs: number,
): Promise<Warmup> {
  const startNs = clock.nowNs();
  const blocks: number[][] = [];
  let repeat = 1;
  let executions = 0;
  let steps = 0;
  for (;;) {
    const block: number[] = [];
    const blockStartNs = clock.nowNs();
    do {
      const stepStartNs = clock.nowNs();
      await step(repeat);
      const stepNs = clock.nowNs() - stepStartNs;
      block.push(stepNs / repeat);
      executions += repeat;
      steps++;
      if (stepNs < minStepNs) repeat *= 2;
    } while (clock.nowNs() - blockStartNs < policy.blockMs * 1e6 && steps < MAX_STEPS);
    blocks.push(block);

    const durationMs = (clock.nowNs() - startNs) / 1e6;
    const enough = durationMs >= policy.minMs && executions >= policy.minExecutions;
    const steady = enough && blocks.length >= AGREEING_BLOCKS && blocksAgree(blocks.slice(-AGREEING_BLOCKS), policy.tolerance);
    if (steady || durationMs >= policy.maxMs || steps >= MAX_STEPS) {
      const medians = blocks.slice(-AGREEING_BLOCKS).map((last) => quantile(sortSamples(last), 0.5));
      return { reading: { executions, durationMs, steady }, executionNs: Math.min(...medians) };
    }
  }
}
