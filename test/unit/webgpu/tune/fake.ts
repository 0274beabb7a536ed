/** A device with times of the test's own making, and graphs with products in them. */
import { PORTABLE_PROFILE } from '../../../../src/backends/webgpu/profile.ts';
import type { Clocks, Ready, Rules, Runs, TuningDevice } from '../../../../src/backends/webgpu/tune/measure.ts';
import type { Problem, TimedCandidate } from '../../../../src/backends/webgpu/tune/problems.ts';
import { ProblemIds, type Survey, survey } from '../../../../src/backends/webgpu/tune/survey.ts';
import type { Graph } from '../../../../src/ir/graph.ts';
import { elementCount, fromNumbers } from '../../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../../src/ops/builder.ts';

export interface FakeOptions {
  /** Nanoseconds of a candidate; a string refuses it. */
  readonly time: (candidate: TimedCandidate, round: number) => number | string;
  readonly quantumNs?: number;
  readonly clocks?: readonly Clocks[];
  readonly holds?: () => boolean;
  /** Called before each round. */
  readonly onRound?: (rounds: number) => void;
  readonly rules?: Partial<Rules>;
  /** Nothing is ever compiled. */
  readonly hangs?: boolean;
}

/** Counts what is asked of it. */
export class FakeDevice implements TuningDevice {
  readonly rules: Rules;
  readonly networkRules: Rules;
  readonly quantumNs: number;
  readonly prepared: string[] = [];
  readonly rounds: string[][] = [];
  opened = 0;
  destroyed = false;
  /** Warm-ups under way. */
  warming = 0;
  readonly #options: FakeOptions;
  #warmUps = 0;

  constructor(options: FakeOptions) {
    this.#options = options;
    this.rules = { rounds: 5, targetNs: 1e6, minRepetitions: 1, maxRepetitions: 100, lookahead: 4, ...options.rules };
    this.networkRules = { ...this.rules, rounds: 3 };
    this.quantumNs = options.quantumNs ?? 1;
  }

  open = async (): Promise<TuningDevice> => {
    this.opened++;
    return this;
  };

  async prepare(candidate: TimedCandidate): Promise<Ready> {
    this.prepared.push(candidate.hash);
    if (this.#options.hangs) await new Promise(() => undefined);
    const time = this.#options.time(candidate, 0);
    if (typeof time === 'string') throw new Error(time);
    return { candidate };
  }

  async round(runs: readonly Runs[]): Promise<readonly number[]> {
    this.#options.onRound?.(this.rounds.length);
    this.rounds.push(runs.map(({ ready }) => ready.candidate.hash));
    return runs.map(({ ready }) => this.#options.time(ready.candidate, this.rounds.length) as number);
  }

  async warmUp(until: Promise<unknown>, enough?: AbortSignal): Promise<Clocks> {
    this.warming++;
    await Promise.race([until, new Promise((resolve) => enough?.addEventListener('abort', resolve, { once: true }))]);
    this.warming--;
    return enough?.aborted ? 'unproven' : (this.#options.clocks?.[this.#warmUps++] ?? 'proven');
  }

  async holds(): Promise<boolean> {
    return this.#options.holds?.() ?? true;
  }

  check(): void {}

  destroy(): void {
    this.destroyed = true;
  }
}

const CONV = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, strides: [1, 1] } as const;

/** A chain of convolutions with these kernel sizes, channels and images; equal neighbours are equal problems. */
export function chain(sizes: readonly number[], channels = 64, image = 14): Graph {
  const graph = newGraphBuilder('chain');
  graph.input('x', { dtype: 'float32', dims: [1, channels, image, image] });
  let value = 'x';
  for (const [i, size] of sizes.entries()) {
    const dims = [channels, channels, size, size];
    const weights = graph.constant(fromNumbers('float32', dims, new Float32Array(elementCount(dims))));
    const pad = (size - 1) / 2;
    value = graph.node('Conv', [value, weights], { ...CONV, kernel_shape: [size, size], pads: [pad, pad, pad, pad] }, { name: `conv${i}`, ...(i === sizes.length - 1 && { outputs: ['y'] }) });
  }
  return graph.finish([value]);
}

export function surveyed(graph: Graph): Survey {
  return survey(graph, PORTABLE_PROFILE, {}, new ProblemIds());
}

export function problems(graph: Graph): readonly Problem[] {
  return surveyed(graph).problems;
}

/** A number in [0, 1) from a hash and a seed. */
export function chance(hash: string, seed = 0): number {
  let state = seed >>> 0;
  for (const letter of hash) state = (Math.imul(state ^ letter.charCodeAt(0), 2654435761) + 0x9e3779b9) >>> 0;
  return state / 2 ** 32;
}
