/** Tactics as lines for people: how they were chosen, and what was measured beside each. */
import type { EngineHeader, TacticChoice, TacticTime, Tuning } from '../engine/engine.ts';
import { alignedGrid } from '../report/grid.ts';
import { formatNumber, plural } from '../report/units.ts';

const CLOCKS = { proven: 'full clock proven', unproven: 'full clock not proven', software: 'on a software adapter' } as const;

/** `full, 184 candidates measured, 12 from the timing cache, full clock proven`. */
export function describeTuning({ level, measured, reused, refused, unmeasured, networks = 0, clocks }: Tuning): string {
  return [
    level,
    `${plural(measured, 'candidate')} measured`,
    ...(reused > 0 ? [`${reused} from the timing cache`] : []),
    ...(refused > 0 ? [`${refused} refused by the device`] : []),
    ...(unmeasured > 0 ? [`${plural(unmeasured, 'problem')} left to the cost model`] : []),
    ...(networks > 0 ? [`${plural(networks, 'whole network')} timed`] : []),
    ...(clocks ? [CLOCKS[clocks]] : []),
  ].join(', ');
}

/** One row per problem, with the times of its candidates, fastest first, and those of the whole network with it where it was tried there. */
export function describeTactics({ tactics }: EngineHeader): string[] {
  if (!tactics) return ['This engine has no kernels to choose between.'];
  const tried = tactics.choices.some(({ inNetwork }) => inNetwork);
  const rows = tactics.choices.flatMap((choice) => rowsOf(choice, tried));
  const heads = ['problem', 'layers', 'tactic', 'by', 'candidates', 'time', ...(tried ? ['network with it'] : [])];
  return [
    ...(tactics.tuning ? [`tuned    ${describeTuning(tactics.tuning)}`] : []),
    alignedGrid({ heads, aligns: ['left', 'right', 'left', 'left', 'right', 'right', ...(tried ? (['right'] as const) : [])], rows }),
    'The list for --frozen-tactics: inspect ENGINE --tactics --json, or build --export-tactics FILE.',
  ];
}

function rowsOf({ problem, layers, tactic, by, candidates, times = [], inNetwork = [] }: TacticChoice, tried: boolean): string[][] {
  const chosen = times.find((time) => time.tactic === tactic);
  const whole = (name: string): string[] => {
    const time = inNetwork.find((other) => other.tactic === name);
    return tried ? [time ? describeTime(time) : '–'] : [];
  };
  const head = [problem, String(layers.length), tactic, by, String(candidates), chosen ? describeTime(chosen) : '–', ...whole(tactic)];
  const others = times.filter((time) => time !== chosen).sort((a, b) => nsOf(a) - nsOf(b));
  return [head, ...others.map((time) => ['', '', `  ${time.tactic}`, '', '', describeTime(time), ...whole(time.tactic)])];
}

function nsOf(time: TacticTime): number {
  return 'refused' in time ? Number.POSITIVE_INFINITY : time.ns;
}

function describeTime(time: TacticTime): string {
  if ('refused' in time) return `refused: ${time.refused.split('\n', 1)[0]}`;
  return `${formatNumber(time.ns / 1000)} ± ${formatNumber(time.spreadNs / 1000)} µs`;
}
