/**
 * Into how many rounds a run's time is best cut where a neighbour slows the host in stretches, by simulation: how far the p50 of identical cases
 * lie apart, and how long the run is.
 *
 *     npm run build && npm run bench:rounds [-- --trials 200]
 *
 * A run of 15 cases with `isolation: case` on a GPU, of executions of 0.6 ms that the host decides. Slow stretches last for 1 to 3 s, begin at random and
 * slow by a factor; a round has a level of its own of 1 %, and samples scatter by 2 % (both made up; the costs of a round are of runs on an H200, whose
 * later rounds took 500 ms of warm-up and some 55 ms beside it and the samples). A warm-up ends as src/measure/warmup.ts has it: after 500 ms, and on
 * until 300 ms were of one kind; a later one after 100 ms if all of it was, and the device is as it was, which a neighbour of the host does not change.
 * The first row of each neighbour is without those later warm-ups, as suites/*-h200/targets.yaml was once.
 */
import { parseArgs } from 'node:util';
import { createRandom, deriveSeed, exponential, normal, shuffle } from '../dist/src/stats/random.js';
import { quantile, sortSamples } from '../dist/src/stats/samples.js';

const { values } = parseArgs({ options: { trials: { type: 'string', default: '200' } } });
const TRIALS = Number(values.trials);
const CASES = Array.from({ length: 15 }, (_, index) => index);
const NEIGHBOURS = [{ every: 20, factor: 1.3 }, { every: 8, factor: 1.3 }, { every: 8, factor: 2 }, { every: 4, factor: 1.3 }];
const SHAPES = [
  { rounds: 2, ms: 400, whole: true },
  { rounds: 2, ms: 400 },
  { rounds: 4, ms: 180 },
  { rounds: 5, ms: 125 },
  { rounds: 6, ms: 90 },
];
const EXECUTION_MS = 0.6;
/** Yardsticks of the host, garbage and messages before the warm-up; the device's own time after the samples. */
const BEFORE_S = 0.015;
const AFTER_S = 0.04;

/** A run is shorter, with what came before it. */
const LONGEST_S = 300;
const STEP_S = 0.005;

/** Whether the neighbour is there at a time, in seconds. */
function stretches({ every }, random) {
  const slow = new Uint8Array(LONGEST_S / STEP_S);
  // What came before the run began is as likely as what comes in it.
  const beforeS = 60;
  for (let at = 0; at < LONGEST_S; ) {
    const from = at + exponential(1 / every, random);
    at = from + 1 + 2 * random.uniform();
    slow.fill(1, from / STEP_S, at / STEP_S);
  }
  return (s) => slow[Math.floor((s + beforeS) / STEP_S)] === 1;
}

/** Seconds of a warm-up that begins at `from`. */
function warmUp(isSlow, from, again) {
  const isOne = (since, until) => isSlow(since) === isSlow(until) && isSlow((since + until) / 2) === isSlow(until);
  if (again && isOne(from, from + 0.1)) return 0.1;
  let until = from + 0.5;
  while (!isOne(until - 0.3, until)) until += 0.1;
  return until - from;
}

/** One run: its length in seconds, and the p50 of each case. */
function run({ rounds, ms, whole = false }, neighbour, random) {
  const isSlow = stretches(neighbour, random);
  const samples = CASES.map(() => []);
  let now = 0;
  for (let round = 0; round < rounds; round++) {
    for (const index of shuffle(CASES, random)) {
      const level = Math.exp(0.01 * normal(random));
      now += BEFORE_S;
      now += warmUp(isSlow, now, round > 0 && !whole);
      const executionMs = () => EXECUTION_MS * level * (isSlow(now) ? neighbour.factor : 1);
      // As many as fill the time by what the warm-up showed.
      for (let left = Math.ceil(ms / executionMs()); left > 0; left--) {
        const sampleMs = executionMs() * Math.exp(0.02 * normal(random));
        samples[index].push(sampleMs);
        now += sampleMs / 1000;
      }
      now += AFTER_S;
    }
  }
  return { lengthS: now, p50: samples.map((each) => quantile(sortSamples(each), 0.5)) };
}

const rows = NEIGHBOURS.flatMap((neighbour) =>
  SHAPES.map((shape) => {
    const squares = [];
    let lengthS = 0;
    for (let trial = 0; trial < TRIALS; trial++) {
      const { p50, ...ended } = run(shape, neighbour, createRandom(deriveSeed(1, trial)));
      lengthS += ended.lengthS / TRIALS;
      // Each case with the next: as many pairs as cases, none of them twice.
      for (const [i, own] of p50.entries()) squares.push(Math.log(own / p50[(i + 1) % p50.length]) ** 2);
    }
    const rms = Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length);
    const far = squares.filter((square) => square > Math.log(1.05) ** 2).length / squares.length;
    return [
      `1 to 3 s, ${neighbour.every} s apart, × ${neighbour.factor}`,
      `${shape.rounds} × ${shape.ms} ms${shape.whole ? ', whole warm-ups' : ''}`,
      lengthS.toFixed(1),
      (100 * rms).toFixed(1),
      (100 * far).toFixed(1),
    ];
  }),
);
const head = ['slow stretches', 'rounds', 'run, s', 'ratio of two p50, ± %', 'beyond 5 %, %'];
const line = (cells) => `| ${cells.join(' | ')} |\n`;
process.stdout.write([line(head), line(['---', '---', '--:', '--:', '--:']), ...rows.map(line)].join(''));
