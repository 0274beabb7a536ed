/**
 * How often the 95 % intervals of reports hold the number that they are of, by simulation; beside them the percentile bootstrap over
 * rounds and samples, which is what tools print.
 *
 *     npm run build && npm run bench:coverage [-- --trials 400 --markdown] [--only bursts]
 *
 * The number is that of what the rounds are drawn from: a quantile of the latencies of all rounds that could have been, or the median of
 * their throughputs. Noises, with their deviations (bench/coverage-simulation/noises.mjs has them as code):
 *
 *     independent  samples scatter by 10 %, rounds do not differ
 *     late         5 %; one sample in 30 is late, by an exponential variate of 30 %
 *     levels       3 % within a round, and a level of 3 % of each round
 *     modes        2 %; a round is fast or slow (30 % slow, by 10 %), and scatters by 1 % besides
 *     outliers     3 %; levels of 3.5 %, and one round in 12 is slowed
 *     within       the samples of a round follow each other (0.9)
 *     between      rounds follow each other (0.5): a level of 3 %, and 3 % within
 *     bursts       a neighbour comes and goes within rounds, a tenth of the time, and slows by an exponential variate of 30 %
 *     drift        the machine slows down by 10 % during the run
 *
 * The second table has the tails, at the rounds from which they have intervals; `given` is how many runs had one.
 * Exit status 0: every interval of the first table is there and holds its number in 95 % of the trials, but for what a binomial count of
 * them misses one time in a thousand (90 % where rounds follow each other or have modes: a few of them can't show that); those of the
 * second in 90 % of the ones that are given, less the same; else 1.
 */
import { parseArgs } from 'node:util';
import { samplesNeeded } from '../dist/src/stats/interval.js';
import { createRandom } from '../dist/src/stats/random.js';
import { quantilesOfRounds } from '../dist/src/stats/rounds.js';
import { quantile, sortSamples } from '../dist/src/stats/samples.js';
import { bootstrapQuantiles } from './coverage-simulation/bootstrap.mjs';
import { drawRun, NOISES } from './coverage-simulation/noises.mjs';

const { values } = parseArgs({
  options: { trials: { type: 'string', default: '400' }, markdown: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
});
const TRIALS = Number(values.trials);
const SHAPES = [[3, 100], [5, 20], [5, 500], [12, 100], [30, 20]];
const TAILS = [0.95, 0.99];
const UNSEEN = new Set(['modes', 'between']);

const throughputOf = (round) => [round.length / round.reduce((sum, value) => sum + value, 0)];

/** What the intervals are of, from very many rounds. */
function truthOf(noise, rounds, samples, ps) {
  const random = createRandom(99);
  const runs = Array.from({ length: Math.ceil(6e5 / (rounds * samples)) }, () => drawRun(noise, rounds, samples, random)).flat();
  const pool = sortSamples(runs.flat());
  return { quantiles: ps.map((p) => quantile(pool, p)), throughput: quantile(sortSamples(runs.flatMap(throughputOf)), 0.5) };
}

const holds = ({ low, high }, truth) => low <= truth && truth <= high;
const median = (numbers) => quantile(sortSamples(numbers), 0.5);

/** Shares of the trials in which each interval held its number, and the half-widths of ours in percent. */
function medians(noise, rounds, samples) {
  const ps = [0.5, ...TAILS];
  const truth = truthOf(noise, rounds, samples, ps);
  const random = createRandom(7);
  const tally = { p50: 0, qps: 0, bootstrap: ps.map(() => 0), bootstrapQps: 0, given: 0, widths: { p50: [], qps: [] } };
  for (let trial = 0; trial < TRIALS; trial++) {
    const run = drawRun(noise, rounds, samples, random);
    const rates = run.map(throughputOf);
    const [p50] = quantilesOfRounds(run, [0.5]);
    const [qps] = quantilesOfRounds(rates, [0.5]);
    if (p50.roundsNeeded === undefined && qps.roundsNeeded === undefined) tally.given++;
    if (holds(p50, truth.quantiles[0])) tally.p50++;
    if (holds(qps, truth.throughput)) tally.qps++;
    for (const [name, { low, high, point }] of Object.entries({ p50, qps })) tally.widths[name].push(((high - low) / 2 / point) * 100);
    for (const [i, interval] of bootstrapQuantiles(run, ps, random).entries()) if (holds(interval, truth.quantiles[i])) tally.bootstrap[i]++;
    if (holds(bootstrapQuantiles(rates, [0.5], random)[0], truth.throughput)) tally.bootstrapQps++;
  }
  return tally;
}

/** Of a tail, at the fewest rounds that give it an interval. */
function tail(noise, p) {
  const [rounds, samples, trials] = [2 * samplesNeeded(p), 30, Math.ceil(TRIALS / 2)];
  const { quantiles: [truth] } = truthOf(noise, rounds, samples, [p]);
  const random = createRandom(8);
  let [given, held] = [0, 0];
  for (let trial = 0; trial < trials; trial++) {
    const [interval] = quantilesOfRounds(drawRun(noise, rounds, samples, random), [p]);
    if (interval.roundsNeeded !== undefined) continue;
    given++;
    if (holds(interval, truth)) held++;
  }
  return { rounds, given: given / trials, held, count: given };
}

const fewest = (share, count) => share * count - 3.1 * Math.sqrt(count * share * (1 - share));
const percent = (share) => `${Math.round(share * 100)}`;
const print = (cells, widths) => process.stdout.write(`${(values.markdown ? `| ${cells.join(' | ')} |` : cells.map((cell, i) => cell.padEnd(widths[i])).join('  ')).trimEnd()}\n`);

function printTable(heads, rows) {
  const widths = heads.map((head) => Math.max(head.length, 11));
  print(heads, widths);
  if (values.markdown) print(heads.map((_, i) => (i === 0 ? '---' : '--:')), widths);
  for (const cells of rows()) print(cells, widths);
}

const noises = NOISES.filter((noise) => noise.includes(values.only));
if (noises.length === 0) throw new Error(`no noise is called '${values.only}'`);

printTable(['noise', 'rounds × samples', 'p50', '± %', 'QPS', '± %', 'bootstrap p50', 'QPS', 'p95', 'p99'], function* () {
  for (const noise of noises) {
    for (const [rounds, samples] of SHAPES) {
      const row = medians(noise, rounds, samples);
      if (row.given < TRIALS || Math.min(row.p50, row.qps) < fewest(UNSEEN.has(noise) ? 0.9 : 0.95, TRIALS)) process.exitCode = 1;
      const share = (count) => percent(count / TRIALS);
      const width = (numbers) => median(numbers).toFixed(1);
      const [p50, p95, p99] = row.bootstrap.map(share);
      yield [noise, `${rounds} × ${samples}`, share(row.p50), width(row.widths.p50), share(row.qps), width(row.widths.qps), p50, share(row.bootstrapQps), p95, p99];
    }
  }
});
process.stdout.write('\n');
printTable(['noise', ...TAILS.flatMap((p) => [`p${p * 100} given`, 'holds'])], function* () {
  for (const noise of noises) {
    const tails = TAILS.map((p) => tail(noise, p));
    if (tails.some(({ held, count }) => held < fewest(0.9, count))) process.exitCode = 1;
    yield [noise, ...tails.flatMap(({ given, held, count }) => [percent(given), count === 0 ? '–' : percent(held / count)])];
  }
});
