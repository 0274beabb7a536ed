/**
 * How long a process goes on after its work is done: thread pools spin for a while before they sleep (onnxruntime's for some tens
 * of milliseconds, with more than one thread), which would take a core from whoever is timed meanwhile.
 */
import { cpuUsage } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

const STEP_MS = 5;

/** Of a core; what a process at rest takes is far below. */
const QUIET_SHARE = 0.2;

/** A thread that spins may be kept from it for a step. */
const QUIET_STEPS = 2;

const LONGEST_MS = 200;

/** Milliseconds until this process is at rest; 0 where it is at once. To be called right after work. */
export async function timeToRest(): Promise<number> {
  const startMs = performance.now();
  let busyUntilMs = startMs;
  let quiet = 0;
  for (let nowMs = startMs; quiet < QUIET_STEPS && nowMs - startMs < LONGEST_MS; ) {
    const before = cpuUsage();
    const fromMs = nowMs;
    await sleep(STEP_MS);
    const { user, system } = cpuUsage(before);
    nowMs = performance.now();
    if ((user + system) / 1000 < QUIET_SHARE * (nowMs - fromMs)) quiet++;
    else [quiet, busyUntilMs] = [0, nowMs];
  }
  return busyUntilMs - startMs;
}
