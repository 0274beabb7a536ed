/**
 * Records what identical engines do on this machine: real noise for the gate's simulation bench.
 *
 *     npm run build && node bench/record-noise.mjs --output bench/noise/NAME.json --note 'what else ran' [--workload networks|large] [--rounds 60] [--sample-ms 300]
 *
 * Each case is one engine measured twice a round, as `a` and `b`, in adjacent fresh processes whose order is drawn anew: what
 * an interleaved comparison of identical engines sees. A round is kept as the median, the 95th percentile and the throughput
 * of each side, the yardsticks of the time, and what its process took to load the engine and for the first inference, four
 * significant digits: what the gate's statistics rest on.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { compileModel } from '../dist/src/backends/compile.js';
import { onnxruntimeBackend } from '../dist/src/backends/onnxruntime/onnxruntime.js';
import { serializeEngine } from '../dist/src/engine/file.js';
import { createSystemClock } from '../dist/src/measure/clock.js';
import { measureCases } from '../dist/src/measure/orchestrate.js';
import { DEFAULT_TIMEOUT_MS } from '../dist/src/measure/plan.js';
import { createYardstick } from '../dist/src/measure/yardstick.js';
import { deriveSeed } from '../dist/src/stats/random.js';
import { quantile, sortSamples } from '../dist/src/stats/samples.js';
import { buildMobilenetv2 } from '../dist/src/suite/builders/mobilenetv2.js';
import { buildResnet50 } from '../dist/src/suite/builders/resnet50.js';
import { buildSmoke } from '../dist/src/suite/builders/smoke.js';

const { values } = parseArgs({
  options: {
    output: { type: 'string' },
    note: { type: 'string', default: '' },
    workload: { type: 'string', default: 'networks' },
    rounds: { type: 'string', default: '60' },
    'sample-ms': { type: 'string', default: '300' },
    seconds: { type: 'string', default: '3600' },
  },
});
const rounds = Number(values.rounds);
const endMs = performance.now() + Number(values.seconds) * 1000;
const timing = { sampleMs: Number(values['sample-ms']), minSamples: 5, maxSamples: 2000, maxWarmupMs: 1000 };
const SEED = 1;

const MODELS = {
  smoke: () => buildSmoke({ seed: SEED, classes: 10 }),
  mobilenetv2: () => buildMobilenetv2({ seed: SEED, classes: 1000 }),
  resnet50: () => buildResnet50({ seed: SEED, classes: 1000 }),
};
const WORKLOADS = {
  networks: [
    { id: 'smoke/fusion-on/threads-1/b1', model: 'smoke', fusion: 'on', threads: 1, batch: 1 },
    { id: 'smoke/fusion-off/threads-1/b4', model: 'smoke', fusion: 'off', threads: 1, batch: 4 },
    { id: 'mobilenetv2/fusion-on/threads-1/b1', model: 'mobilenetv2', fusion: 'on', threads: 1, batch: 1 },
    { id: 'mobilenetv2/fusion-on/threads-2/b1', model: 'mobilenetv2', fusion: 'on', threads: 2, batch: 1 },
  ],
  // Longer executions and larger weights: few samples a round, and more of the time spent in memory.
  large: [
    { id: 'smoke/fusion-on/threads-1/b32', model: 'smoke', fusion: 'on', threads: 1, batch: 32 },
    { id: 'mobilenetv2/fusion-on/threads-1/b4', model: 'mobilenetv2', fusion: 'on', threads: 1, batch: 4 },
    { id: 'resnet50/fusion-on/threads-1/b1', model: 'resnet50', fusion: 'on', threads: 1, batch: 1 },
    { id: 'resnet50/fusion-on/threads-2/b1', model: 'resnet50', fusion: 'on', threads: 2, batch: 1 },
  ],
};
const CASES = WORKLOADS[values.workload];
if (!CASES || !values.output) throw new Error(`give --output FILE, and --workload as one of ${Object.keys(WORKLOADS).join(', ')}`);

const folder = await mkdtemp(join(tmpdir(), 'noise-'));
const yardstick = createYardstick({ clock: createSystemClock() });

/** The plan of one engine, as both of its sides. */
async function planOf({ id, model, fusion, threads, batch }, index) {
  const options = {
    backend: 'onnxruntime',
    precision: 'fp32',
    fusion,
    batch,
    dims: { N: batch },
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions: { threads },
  };
  const modelBytes = Buffer.concat([...MODELS[model]().chunks()]);
  const context = { signal: undefined, onProgress: undefined };
  const engine = await compileModel({ modelBytes, modelName: model, folder: undefined, options, backend: onnxruntimeBackend, context });
  const enginePath = join(folder, `${index}.engine`);
  await writeFile(enginePath, await serializeEngine(engine));
  const scenario = { name: 'single-stream', streams: 1, targetQps: undefined, transfers: true };
  return ['a', 'b'].map((side) => ({
    case: { id: `${id}#${side}`, suite: model, variant: { id, options }, scenario },
    enginePath,
    device: undefined,
    inputs: { kind: 'seed', seed: SEED },
    environment: {},
  }));
}

const short = (value) => Number(value.toPrecision(4));

/** What the gate reads from a round, in milliseconds, items a second and microseconds. */
function summaryOf(round, batch, { loadMs, firstRunMs }) {
  const sorted = sortSamples(round.samplesNs.map((ns) => ns / round.executionsPerSample / 1e6));
  const throughput = (round.requests * batch * 1e9) / round.elapsedNs;
  const yardsticks = round.yardstick.map(({ durationNs }) => durationNs / 1e3);
  return [quantile(sorted, 0.5), quantile(sorted, 0.95), throughput, ...yardsticks, loadMs, firstRunMs].map(short);
}

const traces = CASES.map(({ id }) => ({ id, a: [], b: [] }));
const plans = await Promise.all(CASES.map(planOf));
const startedAt = new Date().toISOString();
for (let round = 0; round < rounds && performance.now() < endMs; round++) {
  for (const [index, cases] of plans.entries()) {
    const seed = deriveSeed(deriveSeed(SEED, round), index);
    const plan = { cases, plugins: [], seed, rounds: 1, minRounds: 1, isolation: 'round', timing, budgetMs: undefined, timeoutMs: DEFAULT_TIMEOUT_MS };
    const taken = {};
    for await (const event of measureCases(plan, { yardstick })) {
      if (event.kind !== 'case-done') continue;
      if (event.outcome.status === 'failed') throw new Error(event.outcome.error.message);
      taken[event.case.id.slice(-1)] = summaryOf(event.outcome.rounds[0], CASES[index].batch, event.outcome);
    }
    for (const side of ['a', 'b']) traces[index][side].push(taken[side]);
  }
  process.stderr.write(`\rround ${round + 1} of ${rounds}`);
}
await rm(folder, { recursive: true });

const machine = `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores`;
const columns = ['p50 ms', 'p95 ms', 'items/s', 'yardstick cpu-arithmetic us', 'yardstick memory us', 'load ms', 'first inference ms'];
const lines = traces.map(({ id, a, b }) => `    { "id": ${JSON.stringify(id)}, "a": ${JSON.stringify(a)}, "b": ${JSON.stringify(b)} }`);
const head = { machine, note: values.note, workload: values.workload, startedAt, endedAt: new Date().toISOString(), timing, columns };
await writeFile(values.output, `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "cases": [\n${lines.join(',\n')}\n  ]\n}\n`);
