/**
 * Times per node, from onnxruntime's profiler: it writes Chrome trace events to a file, of which the node events of the last
 * run are read (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../engine/engine.ts';
import { readModel } from '../../onnx/model.ts';
import { makeTemporaryFolder } from '../../temporary.ts';
import type { LayerTime } from '../backend.ts';
import { MODEL_PART } from './parts.ts';
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
  const folder = await makeTemporaryFolder('profile');
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

/** What onnxruntime appends to the names of nodes whose layout it changes. */
const LAYOUT = /(_nchwc|_nhwc)$/;

/**
 * Times under the names of the engine's layers. A node in blocked channels is called after the value that it gives (`y_nchwc`), which may be
 * that of an activation it took in: the layer is the node that gives the value in the engine's own graph, and it did the work of those
 * before it that are timed nowhere.
 */
export function namedAsLayers(times: readonly LayerTime[], { header, parts }: Engine): readonly LayerTime[] {
  const layers = new Set(header.layers.map(({ name }) => name));
  const model = parts.get(MODEL_PART);
  if (layers.size === 0 || !model || times.every(({ layer }) => layers.has(layer))) return times;
  const { nodes } = readModel(model);
  const giver = new Map(nodes.flatMap(({ name, outputs }) => outputs.map((output) => [output, name] as const)));
  const named = times.map((time) => {
    if (layers.has(time.layer)) return time;
    const plain = time.layer.replace(LAYOUT, '');
    const layer = layers.has(plain) ? plain : giver.get(plain);
    return layer !== undefined && layers.has(layer) ? { ...time, layer } : time;
  });
  const inputs = new Map(nodes.map((node) => [node.name, node.inputs]));
  const accounted = new Set(named.map(({ layer }) => layer));
  /** Layers that lead to one and have no time, nearest first. */
  const takenIn = (layer: string): string[] =>
    (inputs.get(layer) ?? []).flatMap((input) => {
      const before = giver.get(input);
      if (before === undefined || !layers.has(before) || accounted.has(before)) return [];
      accounted.add(before);
      return [before, ...takenIn(before)];
    });
  return named.map((time) => {
    const alsoDid = takenIn(time.layer);
    return alsoDid.length === 0 ? time : { ...time, alsoDid };
  });
}
