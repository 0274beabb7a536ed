/**
 * Warm-up until steady, not for a fixed count.
 *
 * What has to settle differs: JIT tiers and caches of a CPU within some runs; a GPU that idled needs 200–350 ms of continuous
 * load to raise its clocks, and a burst timed before that is several times too slow. So the executions go on, block after
 * block, until a minimum has passed and the last blocks agree (stats/steady.ts), and end at a bound in any case.
 *
 * A process that waits between its rounds while others keep the device at work finds it as it left it. That is not taken for
 * granted: a later warm-up may end before a GPU's minimum only where it shows again what one of the whole minimum arrived at.
 */
import type { DeviceInfo, DeviceYardstick } from '../backends/backend.ts';
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
  /** Of a process that was steady before; undefined where `minMs` is short as it is. */
  readonly again?: {
    readonly minMs: number;
    readonly blockMs: number;
    /** Without proof by then the full minimum follows. */
    readonly maxMs: number;
  };
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
      // A proof that fails costs nothing: what is left of the minimum holds the blocks that must agree.
      return { ...policy, minMs: 500, blockMs: 100, again: { minMs: 100, blockMs: 25, maxMs: 500 - AGREEING_BLOCKS * 100 } };
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

/** What is executed until it is steady. */
export interface WarmupLoad {
  /** Executes `repeat` times in a row (on every lane at once, where there are several). */
  step(repeat: number): Promise<void>;
  readonly clock: TimeSource;
  /** Shorter steps are lengthened by repeating. */
  readonly minStepNs: number;
  /** Of the device; read when the executions are steady. */
  readonly yardstick?: (() => Promise<DeviceYardstick>) | undefined;
}

export interface Warmup {
  readonly reading: Round['warmup'];
  /** Time of one execution (on every lane at once): the smallest median of the last blocks. */
  readonly executionNs: number;
  readonly yardstick: DeviceYardstick | undefined;
}

/** The warm-ups of one process, always of the same load. */
export class WarmUps {
  /** Those that took the whole minimum and became steady: a neighbour who comes and goes makes two levels of one device. */
  readonly #whole: Warmup[] = [];

  async run(load: WarmupLoad, policy: WarmupPolicy): Promise<Warmup> {
    const blocks = new Blocks(load);
    const shown = await showAgain(blocks, load, policy, this.#whole);
    if (shown) return shown;
    const warmup = await becomeSteady(blocks, load, policy);
    if (warmup.reading.steady) this.#whole.push(warmup);
    return warmup;
  }
}

/** All of the minimum, and until the last blocks agree or the bound is reached. */
async function becomeSteady(blocks: Blocks, { yardstick }: WarmupLoad, policy: WarmupPolicy): Promise<Warmup> {
  for (;;) {
    await blocks.take(policy.blockMs);
    const enough = blocks.durationMs >= policy.minMs && blocks.executions >= policy.minExecutions;
    const steady = enough && blocks.agree(policy.tolerance);
    if (steady || blocks.durationMs >= policy.maxMs || blocks.exhausted) return { ...blocks.ended(steady), yardstick: await yardstick?.() };
  }
}

/**
 * Whether all is as one of the `whole` warm-ups left it, neither slower nor faster: by the yardstick where the device's own clock times it, which the host
 * does not move, else by the executions. Undefined: that was not shown, and the blocks begin anew.
 */
async function showAgain(blocks: Blocks, { yardstick }: WarmupLoad, { again, minExecutions, tolerance }: WarmupPolicy, whole: readonly Warmup[]): Promise<Warmup | undefined> {
  if (!again || !whole.some(({ executionNs }) => AGREEING_BLOCKS * executionNs <= again.maxMs * 1e6)) return undefined;
  while (blocks.durationMs < again.maxMs && !blocks.exhausted) {
    await blocks.take(again.blockMs);
    if (blocks.durationMs < again.minMs || blocks.executions < minExecutions || !blocks.agree(tolerance)) continue;
    const now = { ...blocks.ended(true), yardstick: await yardstick?.() };
    if (whole.some((before) => isNear(levelOf(now), levelOf(before), tolerance))) return now;
  }
  blocks.forget();
  return undefined;
}

/** A device has a clock or has none: levels of one process are of one kind. */
function levelOf({ executionNs, yardstick }: Warmup): number {
  return yardstick?.clock === 'device' ? yardstick.durationNs : executionNs;
}

function isNear(a: number, b: number, tolerance: number): boolean {
  return Math.abs(a - b) <= tolerance * Math.min(a, b);
}

/** Executions in blocks, one after another without a pause. */
class Blocks {
  readonly #load: WarmupLoad;
  readonly #startNs: number;
  #blocks: number[][] = [];
  #repeat = 1;
  #steps = 0;
  executions = 0;
  /** Until the end of the last block. */
  durationMs = 0;

  constructor(load: WarmupLoad) {
    this.#load = load;
    this.#startNs = load.clock.nowNs();
  }

  get exhausted(): boolean {
    return this.#steps >= MAX_STEPS;
  }

  async take(blockMs: number): Promise<void> {
    const { step, clock, minStepNs } = this.#load;
    const block: number[] = [];
    const blockStartNs = clock.nowNs();
    do {
      const stepStartNs = clock.nowNs();
      await step(this.#repeat);
      const stepNs = clock.nowNs() - stepStartNs;
      block.push(stepNs / this.#repeat);
      this.executions += this.#repeat;
      this.#steps++;
      if (stepNs < minStepNs) this.#repeat *= 2;
    } while (clock.nowNs() - blockStartNs < blockMs * 1e6 && !this.exhausted);
    this.#blocks.push(block);
    this.durationMs = (clock.nowNs() - this.#startNs) / 1e6;
  }

  agree(tolerance: number): boolean {
    return this.#blocks.length >= AGREEING_BLOCKS && blocksAgree(this.#blocks.slice(-AGREEING_BLOCKS), tolerance);
  }

  ended(steady: boolean): Omit<Warmup, 'yardstick'> {
    const medians = this.#blocks.slice(-AGREEING_BLOCKS).map((block) => quantile(sortSamples(block), 0.5));
    return { reading: { executions: this.executions, durationMs: this.durationMs, steady }, executionNs: Math.min(...medians) };
  }

  /** Blocks of another length are not compared; the load went on all the same. */
  forget(): void {
    this.#blocks = [];
  }
}
