/**
 * Engines against each other by the device's own time, in one process and in turn: what two builds of a network differ by, where processes of one engine
 * differ by several percent.
 *
 *     npm run build && node bench/versus.mjs before.engine after.engine --rounds 60
 *     node bench/versus.mjs tuned.engine untuned.engine --copies 4 --device swiftshader --together 1
 *
 * Each engine is loaded --copies times (default 2), for memory lies elsewhere each time. In a round every copy of every engine executes --together
 * requests (default 10) in one submit, in an order that is drawn anew, and is timed by timestamp queries, or by the wall clock where the device has none.
 * Rounds begin after --warm-ms of work (default 1000). Of each engine: the median of its rounds, what its copies' medians lie apart, and the ratio to the
 * first engine, round by round, with the 95 % interval of its median. The first engine stands there twice where it is given twice, which shows
 * what no difference looks like.
 */
import { parseArgs } from 'node:util';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { encodeSteps, passesOf } from '../dist/src/backends/webgpu/encode.js';
import { createResources, USAGE } from '../dist/src/backends/webgpu/resources.js';
import { readPlan } from '../dist/src/engine/plan.js';
import { readEngine } from '../dist/src/engine/read.js';
import { quantileInterval } from '../dist/src/stats/interval.js';
import { createRandom, shuffle } from '../dist/src/stats/random.js';
import { quantile, sortSamples } from '../dist/src/stats/samples.js';

const { values: flags, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '60' },
    copies: { type: 'string', default: '2' },
    together: { type: 'string', default: '10' },
    'warm-ms': { type: 'string', default: '1000' },
    device: { type: 'string' },
  },
});
if (files.length < 2) throw new Error('usage: node bench/versus.mjs FIRST.engine OTHER.engine… [--rounds N] [--copies N] [--together N] [--warm-ms N] [--device NAME]');
const [rounds, copies, together] = [flags.rounds, flags.copies, flags.together].map(Number);
const open = await chooseDevice({ wanted: flags.device, unchecked: true });
const { device } = open;

const engines = [];
for (const file of files) {
  const engine = await readEngine(file);
  const plan = readPlan(engine.header.backendData, engine.parts);
  const loaded = [];
  for (let copy = 0; copy < copies; copy++) loaded.push({ ...(await createResources(open, plan, engine.parts)), times: [] });
  engines.push({ file, loaded });
}

const hasClock = device.features.has('timestamp-query');
const queries = hasClock ? device.createQuerySet({ type: 'timestamp', count: 2 }) : undefined;
const resolved = hasClock ? device.createBuffer({ size: 16, usage: USAGE.queryResolve | USAGE.copySrc }) : undefined;
const read = hasClock ? device.createBuffer({ size: 16, usage: USAGE.mapRead | USAGE.copyDst }) : undefined;

/** Milliseconds of one request. */
async function time({ steps, buffers }) {
  const encoder = device.createCommandEncoder();
  // A pass goes on into the next request.
  const passes = passesOf(Array.from({ length: together }, () => steps).flat());
  let begun = 0;
  const begin = () => {
    begun++;
    const writes = { ...(begun === 1 && { beginningOfPassWriteIndex: 0 }), ...(begun === passes && { endOfPassWriteIndex: 1 }) };
    return encoder.beginComputePass(queries && Object.keys(writes).length > 0 ? { timestampWrites: { querySet: queries, ...writes } } : undefined);
  };
  encodeSteps(encoder, steps, buffers, together, begin);
  if (queries) {
    encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, read, 0, 16);
  }
  const commands = encoder.finish();
  const start = performance.now();
  device.queue.submit([commands]);
  open.submitted?.();
  if (!read) {
    await device.queue.onSubmittedWorkDone();
    open.answered?.();
    return (performance.now() - start) / together;
  }
  await read.mapAsync(USAGE.mapRead);
  open.answered?.();
  const [from, to] = new BigUint64Array(read.getMappedRange().slice(0));
  read.unmap();
  return Number(to - from) / 1e6 / together;
}

const all = engines.flatMap(({ loaded }) => loaded);
for (const end = performance.now() + Number(flags['warm-ms']); performance.now() < end;) for (const one of all) await time(one);
const random = createRandom(1);
for (let round = 0; round < rounds; round++) for (const one of shuffle(all, random)) one.times.push(await time(one));

const median = (values) => quantile(sortSamples(values), 0.5);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
/** By round, over an engine's copies. */
const byRound = ({ loaded }) => Array.from({ length: rounds }, (_, round) => mean(loaded.map(({ times }) => times[round])));
const first = byRound(engines[0]);
process.stdout.write(`${open.info.description}: ${rounds} rounds of ${together} requests, ${copies} ${copies === 1 ? 'copy' : 'copies'} of each engine, by ${hasClock ? 'the device’s' : 'the wall'} clock\n`);
for (const engine of engines) {
  const own = byRound(engine);
  const medians = engine.loaded.map(({ times }) => median(times));
  const apart = Math.max(...medians) / Math.min(...medians) - 1;
  const { point, low, high } = quantileInterval(sortSamples(own.map((ms, round) => ms / first[round])), 0.5);
  const interval = Number.isFinite(low + high) ? `${low.toFixed(4)} to ${high.toFixed(4)}` : 'too few rounds for an interval';
  const ratio = engine === engines[0] ? '' : `, ${point.toFixed(4)} of the first (${interval})`;
  process.stdout.write(`${median(own).toFixed(4)} ms${ratio}; copies ${(100 * apart).toFixed(1)} % apart; ${engine.loaded[0].steps.length} steps  ${engine.file}\n`);
}
open.destroy();
