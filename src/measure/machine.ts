/** What the machine does while a round is measured: work of others on its cores, and its clock. */
import { availableParallelism, cpus, loadavg } from 'node:os';
import { cpuUsage, hrtime } from 'node:process';
import { readText } from '../system.ts';

/** Starts watching; the function it returns gives the mean number of cores that other processes kept busy since. */
export function watchCpuLoad(): () => number {
  const before = readCpuTimes();
  return () => {
    const after = readCpuTimes();
    const elapsedMs = after.elapsedMs - before.elapsedMs;
    const busyMs = after.busyMs - before.busyMs;
    // A platform that hides the times of its cores has at least a load average, this process included.
    if (after.busyMs === 0 || elapsedMs <= 0) return loadavg()[0] ?? 0;
    return Math.max(0, (busyMs - (after.ownMs - before.ownMs)) / elapsedMs);
  };
}

interface CpuTimes {
  readonly elapsedMs: number;
  /** Of all cores together. */
  readonly busyMs: number;
  readonly ownMs: number;
}

function readCpuTimes(): CpuTimes {
  const own = cpuUsage();
  const busyMs = cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  return { elapsedMs: Number(hrtime.bigint()) / 1e6, busyMs, ownMs: (own.user + own.system) / 1000 };
}

/** Mean clock of the cores now, in MHz; undefined where the machine (most virtual ones) does not say. */
export function readClockMhz(read: (path: string) => string | undefined = readText): number | undefined {
  const readings = Array.from({ length: availableParallelism() }, (_, core) =>
    Number(read(`/sys/devices/system/cpu/cpu${core}/cpufreq/scaling_cur_freq`)),
  ).filter((kilohertz) => kilohertz > 0);
  if (readings.length > 0) return readings.reduce((sum, kilohertz) => sum + kilohertz, 0) / readings.length / 1000;
  const speed = cpus()[0]?.speed ?? 0;
  return speed > 0 ? speed : undefined;
}
