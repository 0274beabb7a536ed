/**
 * What a request costs around the device's own work: recording, submitting in one part or several, and what holds a request up now and then.
 *
 *     npm run build && node bench/submit.mjs resnet50-int8-b1.engine --parts 1,2,3,4 --seconds 2
 *
 * Commands are encoded beforehand, as a session does while the device is busy. For every number of parts: the processor's time in
 * `queue.submit`, the time from the first submit until the work is done (median, mean, 99th percentile, longest), and how much of what is beyond
 * twice the median fell together with a garbage collection, by V8's own account. Parts grow: the device starts on a short first one while
 * the next is recorded; `3x2` are three parts, each with twice the steps of the one before. Kinds of parts take turns, so that a changing clock
 * falls on all. --encode-late encodes each request's commands before it instead of after it. Last stands what the device takes by itself: --together requests (default 10) in one submit, over their number.
 */
import { PerformanceObserver, performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { encodeExecutions, partEnds } from '../dist/src/backends/webgpu/encode.js';
import { createResources } from '../dist/src/backends/webgpu/resources.js';
import { readPlan } from '../dist/src/engine/plan.js';
import { readEngine } from '../dist/src/engine/read.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    parts: { type: 'string', default: '1,2,3,4' },
    seconds: { type: 'string', default: '2' },
    device: { type: 'string' },
    'encode-late': { type: 'boolean', default: false },
    together: { type: 'string', default: '10' },
  },
});
const [file] = positionals;
if (!file) throw new Error('which engine?');
const engine = await readEngine(file);
const open = await chooseDevice({ wanted: flags.device, unchecked: true });
const { steps, buffers } = await createResources(open, readPlan(engine.header.backendData, engine.parts), engine.parts);
const { device } = open;
const kinds = flags.parts.split(',').map((kind) => {
  const [parts, growth] = kind.split('x').map(Number);
  return { cuts: partEnds(steps.length, parts, growth), samples: [], submits: [], encodes: [] };
});

const encode = ({ cuts }) => encodeExecutions(device, { steps, buffers }, 1, cuts);

const collections = [];
new PerformanceObserver((list) => collections.push(...list.getEntries().map(({ startTime, duration }) => ({ startTime, duration })))).observe({ entryTypes: ['gc'] });

async function request(kind, keep) {
  const commands = flags['encode-late'] ? encode(kind) : (kind.spare ?? encode(kind));
  const start = performance.now();
  for (const part of commands) device.queue.submit([part]);
  const submitted = performance.now();
  open.submitted?.();
  const done = device.queue.onSubmittedWorkDone();
  const encoding = performance.now();
  kind.spare = flags['encode-late'] ? undefined : encode(kind);
  const encoded = performance.now();
  await done;
  open.answered?.();
  if (keep) kind.samples.push({ start, ms: performance.now() - start });
  if (keep) kind.submits.push(submitted - start);
  if (keep) kind.encodes.push(encoded - encoding);
}

const until = async (seconds, keep) => {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) for (const kind of kinds) await request(kind, keep);
};
await until(0.7, false);
await until(Number(flags.seconds) * kinds.length, true);
await new Promise((resolve) => setTimeout(resolve, 50));

const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const collected = ({ start, ms }) => collections.filter(({ startTime, duration }) => startTime < start + ms && startTime + duration > start).reduce((sum, { duration }) => sum + duration, 0);
process.stdout.write(`${open.info.description}: ${steps.length} steps, ${collections.length} garbage collections of ${collections.reduce((sum, { duration }) => sum + duration, 0).toFixed(1)} ms\n`);
for (const { cuts, samples, submits, encodes } of kinds) {
  const times = samples.map(({ ms }) => ms);
  const median = quantile(times, 0.5);
  const slow = samples.filter(({ ms }) => ms > 2 * median);
  const beyond = slow.reduce((sum, { ms }) => sum + ms - median, 0);
  const garbage = slow.reduce((sum, sample) => sum + Math.min(sample.ms - median, collected(sample)), 0);
  process.stdout.write(
    `${cuts.length} part${cuts.length === 1 ? '' : 's'} (to ${cuts.join(', ')}): p50 ${median.toFixed(3)} ms, mean ${mean(times).toFixed(3)}, p99 ${quantile(times, 0.99).toFixed(3)}, longest ${Math.max(...times).toFixed(1)}; ` +
      `submit ${quantile(submits, 0.5).toFixed(3)} ms, encoding ${quantile(encodes, 0.5).toFixed(3)}; ${slow.length} of ${times.length} took twice the median, ${beyond.toFixed(1)} ms beyond it, ${garbage.toFixed(1)} of that in garbage collections\n`,
  );
}

const together = Number(flags.together);
const alone = [];
for (const end = performance.now() + 1000; performance.now() < end;) {
  const commands = encodeExecutions(device, { steps, buffers }, together);
  const start = performance.now();
  for (const part of commands) device.queue.submit([part]);
  open.submitted?.();
  await device.queue.onSubmittedWorkDone();
  open.answered?.();
  alone.push((performance.now() - start) / together);
}
process.stdout.write(`${together} requests in one submit: ${quantile(alone, 0.5).toFixed(3)} ms each\n`);
open.destroy();
