/**
 * Fits the cost model of the packed matrix kernel to measured times, and says how good its choice is.
 *
 *     npm run build && node bench/packed-gemm.mjs --resnet 1,128 --json times.jsonl
 *     node bench/packed-fit.mjs times.jsonl --steps 4000
 *
 * Judged by shape: time of the model's first tactic, and of the best of its first four and eight, over the best that was measured; and the mean
 * error of the predicted times' logarithms. Without --steps the built-in constants are judged; with it a seeded random search changes the
 * constants first and prints them. The constants are judged by the times that they were fitted to.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { H200, predictPackedNs } from '../dist/src/backends/webgpu/tactics/packed-model.js';

const { values: flags, positionals } = parseArgs({ allowPositionals: true, options: { steps: { type: 'string', default: '0' }, seed: { type: 'string', default: '1' } } });
if (positionals.length === 0) throw new Error('usage: node bench/packed-fit.mjs FILE.jsonl… [--steps N] [--seed N]');

/** Measured kernels by element and shape; the fastest of those with one name. */
const shapes = new Map();
for (const file of positionals) {
  for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
    const { element, shape, name, ms, error, tactic, problem } = JSON.parse(line);
    if (!tactic || error > 1) continue;
    const key = `${element} ${shape}`;
    const known = shapes.get(key) ?? new Map();
    if (!(known.get(name)?.ns <= ms * 1e6)) known.set(name, { ns: ms * 1e6, tactic, problem });
    shapes.set(key, known);
  }
}

const mean = (values) => values.reduce((all, value) => all + value, 0) / values.length;

function judge(model) {
  const [errors, losses] = [[], { 1: [], 4: [], 8: [] }];
  for (const known of shapes.values()) {
    const ranked = [...known.values()].map((kernel) => ({ ns: kernel.ns, guess: predictPackedNs(kernel.problem, kernel.tactic, model) })).sort((a, b) => a.guess - b.guess);
    const best = Math.min(...ranked.map(({ ns }) => ns));
    errors.push(...ranked.map(({ ns, guess }) => Math.abs(Math.log(guess / ns))));
    for (const most of [1, 4, 8]) losses[most].push(Math.min(...ranked.slice(0, most).map(({ ns }) => ns)) / best);
  }
  return { error: mean(errors), first: mean(losses[1]), four: mean(losses[4]), eight: mean(losses[8]), worst: Math.max(...losses[1]) };
}

const cost = (model) => {
  const { error, first, four } = judge(model);
  return error + 1.5 * (first - 1) + 1.5 * (four - 1);
};

/** Constants that the times say something about. */
const FREE = ['matrixFlops.f16', 'matrixFlops.i8', 'tileBytes', 'unitL2Bytes', 'allL2Bytes', 'unitBytes', 'beginning', 'restart', 'wideResult', 'halfResult', 'blockLatency', 'barrier', 'round', 'result.f16', 'result.i8', 'operand.f16', 'operand.i8', 'nextOperand', 'lateOperands', 'dispatch', 'partialBytes'];

function changed(model, path, factor) {
  const [name, element] = path.split('.');
  return { ...model, [name]: element ? { ...model[name], [element]: model[name][element] * factor } : model[name] * factor };
}

let seed = Number(flags.seed) >>> 0;
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 32;
};
const say = (name, { error, first, four, eight, worst }) =>
  process.stdout.write(`${name}: first ${first.toFixed(3)} (worst ${worst.toFixed(2)}), best of four ${four.toFixed(3)}, of eight ${eight.toFixed(3)}, error of the logarithm ${error.toFixed(3)}\n`);

const steps = Number(flags.steps);
process.stdout.write(`${shapes.size} shapes, ${[...shapes.values()].reduce((all, { size }) => all + size, 0)} kernels\n`);
say('built in', judge(H200));
let [best, least] = [H200, cost(H200)];
for (let step = 0; step < steps; step++) {
  let next = best;
  for (let i = 0; i <= Math.floor(random() * 2); i++) next = changed(next, FREE[Math.floor(random() * FREE.length)], Math.exp((random() - 0.5) * (step < steps / 2 ? 1.2 : 0.4)));
  const found = cost(next);
  if (found < least) [best, least] = [next, found];
}
if (steps > 0) {
  say('fitted', judge(best));
  process.stdout.write(`${JSON.stringify(best, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(3)) : value), 2)}\n`);
}
