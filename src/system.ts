/** What the system grants to this process, read from small files of the kernel's. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** A small file of the kernel's, without the line end; undefined where it is not there. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/**
 * Cores that this process may keep busy: its CPU affinity, bounded by the quota of its control group (cgroup-v2 cpu.max, cgroup-v1
 * cpu.cfs_quota_us), rounded up.
 */
export function availableCores(read: (path: string) => string | undefined = readText, affinity = availableParallelism()): number {
  const [quota, period] = (read('/sys/fs/cgroup/cpu.max') ?? legacyQuota(read) ?? 'max').split(/\s+/).map(Number);
  const granted = isPositive(quota) && isPositive(period) ? quota / period : Infinity;
  return Math.ceil(Math.min(affinity, granted));
}

function legacyQuota(read: (path: string) => string | undefined): string | undefined {
  const quota = read('/sys/fs/cgroup/cpu/cpu.cfs_quota_us');
  return quota === undefined ? undefined : `${quota} ${read('/sys/fs/cgroup/cpu/cpu.cfs_period_us')}`;
}

function isPositive(value: number | undefined): value is number {
  return value !== undefined && value > 0 && Number.isFinite(value);
}
