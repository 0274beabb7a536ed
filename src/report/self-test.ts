/** The gate's self-test for people. */
import { roundsFor, type SelfTest, type Sensitivity } from '../gate/self-test.ts';
import { alignedGrid } from './grid.ts';
import { formatPercent, plural } from './units.ts';

/** Ends with a line feed. `detectPercent`: the slowdown that rounds are to be chosen for. */
export function renderSelfTest(test: SelfTest & { readonly suite: string }, detectPercent: number | undefined): string {
  const { low, high, confidence } = test.alarmShare;
  const alarms = `${test.alarms} of ${plural(test.comparisons, 'comparison')} of identical engines raised an alarm (${confidence * 100} % interval ${formatPercent(low * 100)} to ${formatPercent(high * 100)})`;
  const parts = [
    `self-test of the gate, suite ${test.suite}: ${plural(test.cases, 'case')}, ${test.rounds} rounds`,
    `false alarms: ${alarms}`,
    `smallest slowdown found in nine of ten gates, by rounds:\n${gridOf(test)}`,
    `by case, at ${test.inForce.rounds} rounds:\n${casesOf(test)}`,
  ];
  if (detectPercent !== undefined) parts.push(advice(detectPercent, test));
  return `${parts.join('\n\n')}\n`;
}

function gridOf({ sensitivities, inForce }: SelfTest): string {
  return alignedGrid({
    heads: ['rounds', 'time', 'median case', 'worst case', ''],
    aligns: ['right', 'right', 'right', 'right', 'left'],
    rows: sensitivities.map((one) => [
      String(one.rounds),
      formatDuration(one.durationMs),
      formatSlowdown(one.medianPercent),
      formatSlowdown(one.worstPercent),
      one.rounds === inForce.rounds ? 'in force' : '',
    ]),
  });
}

function casesOf({ byCase }: SelfTest): string {
  return alignedGrid({
    heads: ['case', 'found'],
    aligns: ['left', 'right'],
    rows: Object.entries(byCase).map(([caseId, percent]) => [caseId, formatSlowdown(percent)]),
  });
}

function advice(percent: number, test: SelfTest): string {
  const choice: Sensitivity | undefined = roundsFor(percent, test);
  const wanted = `a slowdown of ${formatPercent(percent)} in every case`;
  if (choice) return `to find ${wanted}: --rounds ${choice.rounds}, ${formatDuration(choice.durationMs)} if no case is decided earlier`;
  const most = test.sensitivities.at(-1)?.rounds ?? 0;
  return `${wanted} can't be found with ${most} rounds here: quieten the machine, raise --time so that a round holds more samples, or lower a --threshold that is above it`;
}

function formatSlowdown(percent: number | undefined): string {
  return percent === undefined ? 'none' : `+${formatPercent(percent)}`;
}

function formatDuration(ms: number): string {
  return ms < 90_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}
