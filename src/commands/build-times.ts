/** A build's times as `build` prints them. */
import { formatNumber } from '../report/units.ts';
import type { BuildResult } from '../workflows/build.ts';

/** `1.9 s (2.6 s of processor time): read 0.1, import 0.2, passes 0.9, kernels 0.5, write 0.2`. */
export function describeTimes({ stepsMs, buildStepsMs, cpuMs }: Pick<BuildResult, 'stepsMs' | 'buildStepsMs' | 'cpuMs'>): string {
  const seconds = (ms: number): string => formatNumber(ms / 1000);
  const { read = 0, import: imported = 0, build = 0, write = 0 } = stepsMs;
  const named = Object.entries(buildStepsMs);
  const steps = [['read', read], ['import', imported], ...(named.length > 0 ? named : [['build', build] as const]), ['write', write]] as const;
  const list = steps.map(([step, ms]) => `${step} ${seconds(ms)}`).join(', ');
  return `${seconds(read + imported + build + write)} s (${seconds(cpuMs)} s of processor time): ${list}`;
}
