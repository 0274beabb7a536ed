/** A conformance report as lines for people: a table, then every failure with the smallest input that shows it. */
import type { CheckResult } from '../kit/conformance.ts';
import type { PartResult } from '../kit/parts.ts';
import { alignedGrid } from '../report/grid.ts';
import type { PluginReport } from '../workflows/plugin-test.ts';

export function describeConformance({ ops, parts, device, seed, passed }: PluginReport): string[] {
  const lines = [ops.length === 0 ? `seed     ${seed}` : `device   ${device ?? 'none: nothing ran on webgpu'}; seed ${seed}`];
  for (const { op, plugin, checks } of ops) {
    lines.push('', `${op} (plugin ${plugin.name} ${plugin.version})`);
    lines.push(alignedGrid({ heads: ['check', 'result', 'inputs', 'largest error'], aligns: ['left', 'left', 'right', 'left'], rows: checks.map(rowOf) }));
    lines.push(...together(checks).flatMap(({ names, check }) => resultLines(names, check)));
  }
  if (parts.length > 0) lines.push('', alignedGrid({ heads: ['part', 'result'], aligns: ['left', 'left'], rows: parts.map(({ part, status }) => [part, status === 'failed' ? 'FAILED' : status]) }), ...parts.flatMap(partLines));
  const failed = [...ops.flatMap(({ checks }) => checks), ...parts].filter(({ status }) => status === 'failed').length;
  const checked = ops.length > 0 || parts.some(({ status }) => status !== 'skipped');
  lines.push('', passed ? (checked ? 'passed' : 'nothing could be checked here') : `${failed} check${failed === 1 ? '' : 's'} failed`);
  return lines;
}

/** Checks with one and the same thing to say, said once: a mistake in `infer` is everybody's. */
function together(checks: readonly CheckResult[]): readonly { readonly names: string; readonly check: CheckResult }[] {
  const groups = new Map<string, [CheckResult, ...CheckResult[]]>();
  for (const check of checks) {
    const key = check.status === 'failed' ? check.message : check.status === 'skipped' ? check.reason : check.check;
    const group = groups.get(`${check.status} ${key}`);
    if (group) group.push(check);
    else groups.set(`${check.status} ${key}`, [check]);
  }
  return [...groups.values()].map((group) => ({ names: group.map(({ check }) => check).join(', '), check: group[0] }));
}

function resultLines(names: string, result: CheckResult): string[] {
  if (result.status === 'failed') return [`FAILED ${names}: ${result.message}`, `  smallest input: ${result.input}`];
  return result.status === 'skipped' ? [`skipped ${names}: ${result.reason}`] : [];
}

function partLines({ part, status, message }: PartResult): string[] {
  return message === undefined ? [] : [`${status === 'failed' ? 'FAILED' : status} ${part}: ${message}`];
}

function rowOf(result: CheckResult): string[] {
  switch (result.status) {
    case 'passed': {
      const { ulps, absolute } = result.worst;
      return [result.check, 'passed', String(result.cases), ulps === 0 ? 'none' : `${round(ulps)} ULP, ${round(absolute)}`];
    }
    case 'failed':
      return [result.check, 'FAILED', String(result.cases), '–'];
    case 'skipped':
      return [result.check, 'skipped', '–', '–'];
    default:
      return result satisfies never;
  }
}

function round(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(2))) : 'beyond measure';
}
