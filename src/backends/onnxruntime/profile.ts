/**
 * Times per node, from onnxruntime's profiler: it writes Chrome trace events to a file, of which the node events of the last
 * run are read (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LayerTime } from '../backend.ts';
import type { OrtSession, OrtTensor, SessionOptions } from './library.ts';

/** Runs before the one that is read: the first ones allocate. */
const WARMUP_RUNS = 3;

interface TraceEvent {
  readonly cat?: string;
  readonly name?: string;
  /** Microseconds. */
  readonly dur?: number;
}

/** Opens a second session with the profiler on; the timed one must not pay for it. */
export async function profileRun(
  open: (options: SessionOptions) => Promise<OrtSession>,
  feeds: Record<string, OrtTensor>,
): Promise<readonly LayerTime[]> {
  const folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-profile-'));
  try {
    const session = await open({ enableProfiling: true, profileFilePrefix: join(folder, 'trace') });
    try {
      for (let run = 0; run <= WARMUP_RUNS; run++) await session.run(feeds);
      session.endProfiling();
    } finally {
      await session.release();
    }
    const [file] = await readdir(folder);
    return lastRun(JSON.parse(await readFile(join(folder, file!), 'utf8')) as readonly TraceEvent[]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Every run ends in one `model_run` event, with the kernels' events before it. */
function lastRun(events: readonly TraceEvent[]): LayerTime[] {
  const ends = events.flatMap((event, index) => (event.name === 'model_run' ? [index] : []));
  const [previous = -1, last = events.length] = ends.slice(-2);
  return events
    .slice(previous + 1, last)
    .filter((event) => event.cat === 'Node' && event.name?.endsWith('_kernel_time'))
    .map((event) => ({ layer: event.name!.slice(0, -'_kernel_time'.length), durationNs: (event.dur ?? 0) * 1000 }));
}
