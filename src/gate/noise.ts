/** Why a comparison is hard to believe or hard to decide: what the rounds of both sides say about the machine, by name. */
import { latencyRoundsMs } from '../results/derive.ts';
import type { CompletedRecord, Round } from '../results/record.ts';
import { robustDeviation, trendOf, twoModes } from '../stats/modes.ts';
import { quantile, sortSamples } from '../stats/samples.ts';

export type Side = 'baseline' | 'candidate';

export type NoiseWarning =
  /** Rounds are fast or slow and little in between: processes of one engine differ by their memory layout, threads, turbo. */
  | { readonly kind: 'two-modes'; readonly side: Side; readonly gapPercent: number; readonly slowShare: number }
  /** The rounds became slower or faster all along: heat, a power limit, a filling cache. */
  | { readonly kind: 'trend'; readonly side: Side; readonly percent: number }
  /** The CPU's clock was not the same. */
  | { readonly kind: 'clock'; readonly beforeMhz: number; readonly afterMhz: number }
  /** Other programs kept cores busy. */
  | { readonly kind: 'neighbour'; readonly side: Side; readonly cores: number }
  /** The rounds of a side scatter. */
  | { readonly kind: 'noisy'; readonly side: Side; readonly percent: number };

/** Smaller gaps and trends don't matter to any threshold in use. */
const NOTABLE = 0.02;

const TREND_P = 0.001;

const CLOCK_CHANGE = 0.03;

/** Cores that others kept busy in the median round. */
const BUSY_CORES = 0.3;

/** Round-to-round noise above which 24 rounds don't find a change of 10 % (bench/gate-simulation.mjs). */
const NOISY = 0.06;

/** In a fixed order. */
export function noiseOf(baseline: CompletedRecord, candidate: CompletedRecord): readonly NoiseWarning[] {
  return [...sideNoise('baseline', baseline.rounds), ...sideNoise('candidate', candidate.rounds), ...clockChange(baseline.rounds, candidate.rounds)];
}

function sideNoise(side: Side, rounds: readonly Round[]): NoiseWarning[] {
  const levels = latencyRoundsMs(rounds).map((round) => Math.log(quantile(sortSamples(round), 0.5)));
  if (levels.length === 0 || !levels.every(Number.isFinite)) return [];
  const warnings: NoiseWarning[] = [];
  const modes = twoModes(sortSamples(levels));
  if (modes && modes.high - modes.low > NOTABLE) {
    warnings.push({ kind: 'two-modes', side, gapPercent: Math.expm1(modes.high - modes.low) * 100, slowShare: modes.upperShare });
  }
  const trend = trendOf(levels);
  if (trend && trend.p < TREND_P && Math.abs(trend.change) > NOTABLE) warnings.push({ kind: 'trend', side, percent: Math.expm1(trend.change) * 100 });
  const cores = quantile(sortSamples(rounds.map((round) => round.cpuLoad)), 0.5);
  if (cores > BUSY_CORES) warnings.push({ kind: 'neighbour', side, cores });
  const deviation = levels.length < 3 ? 0 : robustDeviation(levels);
  if (deviation > NOISY) warnings.push({ kind: 'noisy', side, percent: deviation * 100 });
  return warnings;
}

function clockChange(baseline: readonly Round[], candidate: readonly Round[]): NoiseWarning[] {
  const [before, after] = [baseline, candidate].map((rounds) => rounds.flatMap((round) => round.clockMhz ?? []));
  if (!before?.length || !after?.length) return [];
  const [beforeMhz, afterMhz] = [quantile(sortSamples(before), 0.5), quantile(sortSamples(after), 0.5)];
  return Math.abs(Math.log(afterMhz / beforeMhz)) > CLOCK_CHANGE ? [{ kind: 'clock', beforeMhz, afterMhz }] : [];
}

/** As a sentence without a full stop. */
export function describeNoise(warning: NoiseWarning): string {
  switch (warning.kind) {
    case 'two-modes':
      return `the ${warning.side}'s rounds have two modes, ${percent(warning.gapPercent)} % apart; ${percent(warning.slowShare * 100)} % are slow`;
    case 'trend':
      return `the ${warning.side} became ${percent(Math.abs(warning.percent))} % ${warning.percent > 0 ? 'slower' : 'faster'} from its first round to its last`;
    case 'clock':
      return `the CPU ran at ${Math.round(warning.beforeMhz)} MHz for the baseline and at ${Math.round(warning.afterMhz)} MHz for the candidate`;
    case 'neighbour':
      return `other programs kept ${warning.cores.toFixed(1)} cores busy while the ${warning.side} was measured`;
    case 'noisy':
      return `the ${warning.side}'s rounds scatter by ${percent(warning.percent)} %`;
    default:
      return warning satisfies never;
  }
}

function percent(value: number): string {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}
