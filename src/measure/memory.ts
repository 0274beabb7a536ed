/**
 * What the operating system says a process holds in memory.
 *
 * A peak can't be reset, one more reason for a process per case. /proc/self/status gives both figures on Linux (proc(5): VmRSS,
 * VmHWM); elsewhere Node's own do.
 */
import { readFileSync } from 'node:fs';
import { memoryUsage, resourceUsage } from 'node:process';

export interface Resident {
  readonly nowBytes: number;
  readonly peakBytes: number;
}

export function readResident(status: string | undefined = readStatus()): Resident {
  const nowBytes = statusBytes(status, 'VmRSS') ?? memoryUsage.rss();
  const peakBytes = statusBytes(status, 'VmHWM') ?? resourceUsage().maxRSS * 1024;
  return { nowBytes, peakBytes: Math.max(nowBytes, peakBytes) };
}

function readStatus(): string | undefined {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return undefined;
  }
}

function statusBytes(status: string | undefined, field: 'VmRSS' | 'VmHWM'): number | undefined {
  const kibibytes = status?.match(new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm'))?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}
