/** What an outside process holds in memory, by the operating system's word and not the program's (proc(5): VmRSS, VmHWM). */
import { readFileSync } from 'node:fs';
import type { ObservedMemory } from '../backend.ts';

/** Undefined where the platform does not tell. Children of the process are not counted. */
export function readProcessMemory(pid: number | undefined): ObservedMemory['outside'] {
  if (pid === undefined) return undefined;
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const bytes = (field: string): number | undefined => {
      const kibibytes = new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1];
      return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
    };
    const [nowBytes, peakBytes] = [bytes('VmRSS'), bytes('VmHWM')];
    return nowBytes === undefined || peakBytes === undefined ? undefined : { nowBytes, peakBytes };
  } catch {
    return undefined;
  }
}
