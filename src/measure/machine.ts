/** What the machine does while a round is measured: work of others on its cores, and its clock. */
import { availableParallelism, cpus, loadavg } from 'node:os';
import { cpuUsage, hrtime } from 'node:process';
import { readText } from '../system.ts';

/** Mean number of cores kept busy. */
export interface CpuLoad {
  /** By other processes; the load average where the platform can't tell. */
  readonly others: number;
  readonly own: number;
}

/** Starts watching; the function it returns tells who kept cores busy since. */
export function watchCpuLoad(): () => CpuLoad {
  const before = readCpuTimes();
  return () => {
    const after = readCpuTimes();
    const elapsedMs = after.elapsedMs - before.elapsedMs;
    if (elapsedMs <= 0) return { others: loadavg()[0] ?? 0, own: 0 };
    const own = (after.ownMs - before.ownMs) / elapsedMs;
    // A platform that hides the times of its cores has at least a load average, this process included.
    if (after.busyMs === 0) return { others: loadavg()[0] ?? 0, own };
    return { others: Math.max(0, (after.busyMs - before.busyMs) / elapsedMs - own), own };
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
