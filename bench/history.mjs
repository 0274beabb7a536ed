/**
 * What `history` finds where nothing changed and where something did, by simulation; beside it the same change points without an
 * allowance for runs that follow each other.
 *
 *     npm run build && npm run bench:history [-- --trials 500 --markdown]
 *
 * A history is a series of runs whose logarithms scatter by 2 %, first-order autoregressive with the correlation of the row. Of steps,
 * `found` is a change within two runs of where it was.
 * Exit status 0: at most 1 % of the histories of independent runs without a step have a change, 3 % at a correlation of 0.3 and 6 % at 0.5
 * (but for what a binomial count exceeds one time in a thousand), and a step of 5 % between 20 and 20 independent runs is found in 90 %;
 * else 1.
 */
import { parseArgs } from 'node:util';
import { changePoints } from '../dist/src/stats/change-points.js';
import { levelChanges } from '../dist/src/stats/levels.js';
import { createRandom, normal } from '../dist/src/stats/random.js';

const { values } = parseArgs({ options: { trials: { type: 'string', default: '500' }, markdown: { type: 'boolean', default: false } } });
const TRIALS = Number(values.trials);
const SCATTER = 0.02;
const PROMISED = new Map([[0, 0.01], [0.3, 0.03], [0.5, 0.06]]);

/** `steps` are the runs from which on the level is higher by `rise`, or lower again where `back`. */
function draw({ rho, runs, steps = [], rise = 0, back = false }, random) {
  let state = normal(random);
  return Array.from({ length: runs }, (_, run) => {
    state = rho * state + Math.sqrt(1 - rho * rho) * normal(random);
    const passed = steps.filter((at) => run >= at).length;
    return Math.exp(SCATTER * state + Math.log1p(rise) * (back ? passed % 2 : passed));
  });
}

function shareOf(row, find) {
  const random = createRandom(11);
  let hits = 0;
  for (let trial = 0; trial < TRIALS; trial++) {
    const cuts = find(draw(row, random), { seed: trial + 1 });
    if (row.steps ? row.steps.some((step) => cuts.some((at) => Math.abs(at - step) <= 2)) : cuts.length > 0) hits++;
  }
  return hits / TRIALS;
}

const without = [0, 0.3, 0.5, 0.7, 0.9].flatMap((rho) => [12, 20, 40, 100].map((runs) => ({ label: `none in ${runs} runs`, rho, runs })));
const stepped = [0, 0.3, 0.5].flatMap((rho) => [5, 10, 20].map((after) => ({ label: `+5 % after 20 runs, ${after} runs later`, rho, runs: 20 + after, steps: [20], rise: 0.05 })));
const larger = [0, 0.5].map((rho) => ({ label: '+10 % after 20 runs, 10 runs later', rho, runs: 30, steps: [20], rise: 0.1 }));
const several = [
  { label: '+5 % and back, every 20 of 80 runs', rho: 0, runs: 80, steps: [20, 40, 60], rise: 0.05, back: true },
  { label: '+6 %, every 10 of 40 runs', rho: 0, runs: 40, steps: [10, 20, 30], rise: 0.06 },
];

/** Whether a share keeps what is promised of it. */
function keepsPromise({ steps, rise, rho, runs }, share) {
  const chance = (promised) => 3.1 * Math.sqrt((promised * (1 - promised)) / TRIALS);
  if (!steps) return !PROMISED.has(rho) || share <= PROMISED.get(rho) + chance(PROMISED.get(rho));
  return rho > 0 || rise !== 0.05 || runs !== 40 || share >= 0.9 - chance(0.9);
}

const WIDTHS = [40, 12, 12, 20];
const line = (cells) => process.stdout.write(`${(values.markdown ? `| ${cells.join(' | ')} |` : cells.map((cell, i) => cell.padEnd(WIDTHS[i])).join('')).trimEnd()}\n`);
line(['change', 'correlation', 'found, %', 'without allowance']);
if (values.markdown) line(['---', '--:', '--:', '--:']);
for (const row of [...without, ...stepped, ...larger, ...several]) {
  const found = shareOf(row, levelChanges);
  if (!keepsPromise(row, found)) process.exitCode = 1;
  line([row.label, String(row.rho), ...[found, shareOf(row, changePoints)].map((share) => (share * 100).toFixed(1))]);
}
