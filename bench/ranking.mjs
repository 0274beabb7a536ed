/**
 * What the cost models of tactics lose, by the times that tuning measured: for every problem of a network the time of the models' first tactic
 * over that of the fastest, layers counted.
 *
 *     npm run build && node bench/ranking.mjs resnet50.onnx --timing-cache timings.json --precision fp16 --batch 1,128 --worst 5
 *     node bench/ranking.mjs resnet50.onnx --timing-cache timings.json --precision int8 --calibration resnet50.calibration.json --batch 128
 *     node bench/ranking.mjs vit.onnx --timing-cache timings.json --half-sums --batch 32
 *
 * Kernels are generated for an NVIDIA H200, without one, and looked up by what they are; a problem of which the first or all but one are not in the
 * cache is left out and counted. --worst N lists those that lose the most.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { readBuildInput } from '../dist/src/backends/compile.js';
import { evaluateConstants } from '../dist/src/backends/onnxruntime/evaluate.js';
import { planPrecision } from '../dist/src/backends/webgpu/precision.js';
import { contestOf, isTimed } from '../dist/src/backends/webgpu/tune/contest.js';
import { ProblemIds, survey } from '../dist/src/backends/webgpu/tune/survey.js';
import { runPasses } from '../dist/src/passes/pipeline.js';
import { parseCalibration } from '../dist/src/quantize/calibration.js';
import { H200_PROFILE } from './h200.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'timing-cache': { type: 'string' },
    precision: { type: 'string', default: 'fp16' },
    calibration: { type: 'string' },
    batch: { type: 'string', default: '1' },
    'half-sums': { type: 'boolean', default: false },
    worst: { type: 'string', default: '0' },
  },
});
const [model] = positionals;
if (!model || !flags['timing-cache']) throw new Error('which model, and which --timing-cache?');

/** More candidates than any problem has. */
const ALL = 1000;
/** Nanoseconds by kernel, of every device that the cache knows. */
const TIMES = new Map(Object.values(JSON.parse(readFileSync(flags['timing-cache'], 'utf8')).sections).flatMap(({ kernels }) => Object.entries(kernels).map(([hash, { ns }]) => [hash, ns])));

const { precision } = flags;
const calibration = flags.calibration && { cache: parseCalibration(readFileSync(flags.calibration, 'utf8'), flags.calibration), stamp: undefined };
for (const batch of flags.batch.split(',').map(Number)) {
  const options = { backend: 'webgpu', precision, fusion: 'on', batch, disabledPasses: [], backendOptions: {} };
  const input = await readBuildInput({ modelBytes: readFileSync(model), modelName: model, folder: undefined, options, calibration });
  if (!input.graph.ok) throw new Error(JSON.stringify(input.graph));
  const passes = { fusion: 'on', disabled: [], fold: evaluateConstants };
  const precise = await planPrecision(input.graph.graph, input, passes);
  const { graph: wanted } = precise.of(precise.named?.graph ?? input.graph.graph);
  const { graph } = await runPasses(wanted, { ...passes, target: 'webgpu' });
  const { problems } = survey(graph, H200_PROFILE, { half: precision !== 'fp32', halfSums: flags['half-sums'] }, new ProblemIds());
  report(batch, problems.map((problem) => contestOf(problem, ALL)).flatMap(({ problem, names, forms }) => forms.map((form) => judged(problem.id, names, form))));
}

function judged(id, names, { count, candidates }) {
  const timed = candidates.flatMap((candidate, rank) => (isTimed(candidate) && TIMES.has(candidate.hash) ? [{ rank, name: names[rank], ns: TIMES.get(candidate.hash) }] : []));
  const [first, best] = [timed[0], timed.toSorted((a, b) => a.ns - b.ns)[0]];
  return { id, count, kernels: timed.length, first: first?.rank === 0 && timed.length > 1 ? first : undefined, best };
}

function report(batch, forms) {
  const known = forms.filter(({ first }) => first);
  const total = (pick) => known.reduce((sum, form) => sum + form.count * pick(form), 0);
  const [first, best] = [total((form) => form.first.ns), total((form) => form.best.ns)];
  const kernels = forms.reduce((sum, form) => sum + form.kernels, 0);
  process.stdout.write(
    `${model} ${precision}${flags['half-sums'] ? ' summed in halves' : ''}, batch ${batch}: ${kernels} kernels of ${known.length} forms (${forms.length - known.length} left out); ` +
      `the first tactics take ${(first / 1e6).toFixed(3)} ms, the fastest ${(best / 1e6).toFixed(3)}: ${(first / best).toFixed(3)}\n`,
  );
  const lost = ({ count, first: { ns }, best: { ns: least } }) => count * (ns - least);
  for (const form of known.toSorted((a, b) => lost(b) - lost(a)).slice(0, Number(flags.worst))) {
    process.stdout.write(`  ${form.id}, ${form.count} layers: ${(form.first.ns / 1000).toFixed(1)} µs ${form.first.name}, ${(form.best.ns / 1000).toFixed(1)} µs ${form.best.name} (#${form.best.rank + 1})\n`);
  }
}
