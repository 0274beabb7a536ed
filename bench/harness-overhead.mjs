/**
 * What the harness itself costs: onnxruntime sessions under the harness' loop against the same sessions in bare loops.
 *
 *     npm run build && npm run bench [-- --pairs 100 --block-ms 100]
 *
 * Both loops run in this process on the same session object, in adjacent pairs whose order is drawn anew each time, so that
 * whatever the machine does falls on both. A pair's figure is the ratio of times for the same number of executions, the
 * harness' set-up of a round included; the median of the ratios is reported with its interval. The verdict is by the
 * process' CPU time: the sessions compute on one thread that never sleeps, so that this is the wall time without what other
 * programs took of it. The wall time's ratio stands beside it. Exit status 0: at most 2 % slower, 1: slower, 4: the interval
 * holds 2 %, so more pairs are needed.
 */
import { parseArgs } from 'node:util';
import { onnxruntimeBackend } from '../dist/src/backends/onnxruntime/onnxruntime.js';
import { loadOrt } from '../dist/src/backends/onnxruntime/library.js';
import { compileModel } from '../dist/src/backends/compile.js';
import { createSystemClock, measureQuantum } from '../dist/src/measure/clock.js';
import { seededInputs } from '../dist/src/measure/inputs.js';
import { openLanes } from '../dist/src/measure/lanes.js';
import { DEFAULT_TIMING } from '../dist/src/measure/plan.js';
import { shortestSampleNs } from '../dist/src/measure/round.js';
import { timeLoad } from '../dist/src/measure/scenarios.js';
import { WarmUps, warmupPolicy } from '../dist/src/measure/warmup.js';
import { quantileInterval } from '../dist/src/stats/interval.js';
import { createRandom } from '../dist/src/stats/random.js';
import { sortSamples } from '../dist/src/stats/samples.js';
import { buildSmoke } from '../dist/src/suite/builders/smoke.js';
import { add, batchNorm, classifier, conv, relu } from '../dist/src/suite/builders/layers.js';
import { createOnnxWriter } from '../dist/src/suite/builders/onnx-writer.js';

const LIMIT = 1.02;
const SEED = 1;

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '100' }, 'block-ms': { type: 'string', default: '100' } } });
const pairs = Number(values.pairs);
const blockNs = Number(values['block-ms']) * 1e6;
const clock = createSystemClock();
const random = createRandom(SEED);

/** Four residual blocks at ResNet-50's second stage: float32 [1,3,112,112], about 2 GFLOP. */
function buildResidual() {
  const writer = createOnnxWriter('residual', SEED);
  const image = { value: writer.input('input', 'float32', [1, 3, 112, 112]), channels: 3, meanSquare: 1 };
  let x = relu(writer, batchNorm(writer, 'stem.bn', conv(writer, 'stem', image, 64, { kernel: 7, stride: 2 })));
  for (const block of ['a', 'b', 'c', 'd']) {
    const narrow = relu(writer, batchNorm(writer, `${block}.bn1`, conv(writer, `${block}.conv1`, x, 64, { kernel: 3 })));
    const wide = batchNorm(writer, `${block}.bn2`, conv(writer, `${block}.conv2`, narrow, 64, { kernel: 3 }), 0.5);
    x = relu(writer, add(writer, x, wide));
  }
  writer.output(classifier(writer, 'fc', x, 1000), 'output', [1, 1000]);
  return writer.finish();
}

const percent = (ratio) => ((ratio - 1) * 100).toFixed(2);
const slower = ({ point, low, high }) => `+${percent(point)} % (95 % interval ${percent(low)} to ${percent(high)})`.replace('+-', '-');

/** The session of our backend, and onnxruntime's own session inside of it. */
async function openSession(name, plan) {
  const options = {
    backend: 'onnxruntime',
    precision: 'fp32',
    fusion: 'on',
    batch: 1,
    dims: { N: 1 },
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions: { threads: 1 },
  };
  const context = { signal: undefined, onProgress: undefined };
  const modelBytes = Buffer.concat([...plan.chunks()]);
  const engine = await compileModel({ modelBytes, modelName: name, folder: undefined, options, backend: onnxruntimeBackend, context });
  const ort = await loadOrt();
  const create = ort.InferenceSession.create;
  let raw;
  ort.InferenceSession.create = async (...parameters) => (raw = await create.apply(ort.InferenceSession, parameters));
  const session = await onnxruntimeBackend.load(engine, { device: undefined, signal: undefined });
  ort.InferenceSession.create = create;
  const inputs = seededInputs(session.inputs, SEED);
  const feeds = Object.fromEntries(
    session.inputs.map(({ name, dtype, dims }) => {
      const { buffer, byteOffset, byteLength } = inputs[name].data;
      return [name, new ort.Tensor(dtype, new Float32Array(buffer, byteOffset, byteLength / 4), dims)];
    }),
  );
  return { session, inputs, raw, feeds };
}

/** CPU and wall time of `work`, in microseconds. */
async function time(work) {
  const startNs = clock.nowNs();
  const start = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(start);
  return { cpu: user + system, wall: (clock.nowNs() - startNs) / 1e3 };
}

/** Compares the harness with `bare` on one way of running a session. */
async function compare(label, { session, inputs }, transfers, bare) {
  const scenario = { name: 'single-stream', streams: 1, targetQps: undefined, transfers };
  const lanes = await openLanes(session, inputs, 1, transfers);
  const minSampleNs = shortestSampleNs(measureQuantum(clock.nowNs));
  const { executionNs } = await new WarmUps().run({ step: (repeat) => lanes.request(repeat), clock, minStepNs: minSampleNs }, warmupPolicy('cpu', 3000));
  const repeat = Math.max(1, Math.ceil(minSampleNs / executionNs));
  const samples = Math.max(DEFAULT_TIMING.minSamples, Math.round(blockNs / executionNs / repeat));
  const policy = { sampleMs: 0, minSamples: samples, maxSamples: samples };
  const load = { lanes, clock, scenario, policy, executionNs, minSampleNs, seed: SEED };
  const loops = {
    harness: () => timeLoad(load),
    bare: async () => {
      for (let i = 0; i < samples * repeat; i++) await bare();
    },
  };
  const ratios = { cpu: [], wall: [] };
  for (let pair = 0; pair < pairs; pair++) {
    const times = {};
    const order = random.below(2) === 0 ? ['harness', 'bare'] : ['bare', 'harness'];
    for (const loop of order) times[loop] = await time(loops[loop]);
    for (const kind of ['cpu', 'wall']) ratios[kind].push(times.harness[kind] / times.bare[kind]);
  }
  await lanes.dispose();
  const cpu = quantileInterval(sortSamples(ratios.cpu), 0.5);
  const wall = quantileInterval(sortSamples(ratios.wall), 0.5);
  const each = `${(executionNs / 1e6).toFixed(3)} ms each, ${pairs} pairs`;
  process.stdout.write(`${label} (${each}): CPU time ${slower(cpu)}; wall time ${slower(wall)}\n`);
  return cpu;
}

const results = [];
const models = [['small', buildSmoke({ seed: SEED, classes: 10 })], ['residual', buildResidual()]];
for (const [name, plan] of models) {
  const opened = await openSession(name, plan);
  const { session, raw, feeds, inputs } = opened;
  results.push(await compare(`${name}, inputs in place, against onnxruntime itself`, opened, false, () => raw.run(feeds)));
  results.push(await compare(`${name}, with transfers, against the bare session`, opened, true, () => session.run(inputs)));
  await session.dispose();
}
const worst = Math.max(...results.map(({ high }) => high));
if (worst > LIMIT) process.exitCode = results.some(({ low }) => low > LIMIT) ? 1 : 4;
