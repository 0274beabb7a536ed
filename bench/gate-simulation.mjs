/**
 * How often the gate is right, by simulation: false alarms over suites of identical engines, and how often a change of a known
 * size is found; beside it the rules that people use, on the same data.
 *
 *     npm run build && npm run bench:gate [-- --suites 500 --markdown]
 *
 * A suite has 12 cases and two metrics, the median latency and the throughput. A round of a side is a process with a level of
 * its own, log-normal around the truth, and 25 samples around that level, each correlated with the one before. The "noise" of a
 * row is the standard deviation of the logarithm of the rounds' medians, in percent, all of its components together:
 *
 *     normal    a normal level
 *     tails     Student's t with 3 degrees of freedom
 *     outliers  normal, but one round in 12 is slowed, by an exponential variate; so is one sample in 30
 *     modes     a process is fast or slow (30 % slow), and normal besides
 *     drift     normal, and the machine slows down by 6 times the noise during the run, for both sides alike
 *
 * Two designs. Interleaved: both sides are measured in the same rounds, looks after 8, 12, 18 and 24, cases that are decided
 * leave. Stored: 16 rounds of today against 16 of another day, on which the machine was slower or faster by 1 % (standard
 * deviation); yardsticks see that to 0.3 % in each round, the engine follows it by half to one and a half, and differs by 0.3 % besides.
 *
 * Recorded noise (bench/noise) comes from pairs of identical engines on real machines (bench/record-noise.mjs): each case of a
 * suite is a stretch of consecutive rounds of one of them, the sides swapped at random round by round as a random order would;
 * against a stored baseline, two stretches of the same engine that do not overlap.
 *
 * Exit status 0: at most 1 % of the suites of every row raised a false alarm, and every row with a promise keeps it; else 1.
 */
import { readdir, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { judge } from '../dist/src/gate/judge.js';
import { DEFAULT_POLICY } from '../dist/src/gate/policy.js';
import { DEFAULT_LOOKS, isOpen, levelsOf, planLooks } from '../dist/src/gate/sequential.js';
import { sessionEffect } from '../dist/src/gate/session.js';
import { inferRatio } from '../dist/src/gate/timed.js';
import { createRandom, normal } from '../dist/src/stats/random.js';
import { normalTail, studentTail } from '../dist/src/stats/student.js';

const { values } = parseArgs({
  options: { suites: { type: 'string', default: '500' }, markdown: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
});
const SUITES = Number(values.suites);
const CASES = 12;
const METRICS = ['latency-p50', 'throughput'];
const FAMILY = CASES * METRICS.length;
const SAMPLES = 25;
const STORED_ROUNDS = 16;
const policy = { ...DEFAULT_POLICY, thresholds: { 'latency-p50': 5, throughput: 5 } };
const looks = planLooks(DEFAULT_LOOKS, policy);
const oneLook = { alarmShare: 1, doubtShare: 1, family: FAMILY };

/** Log-levels of rounds with unit standard deviation, by model. */
const LEVELS = {
  normal,
  tails: (random) => (normal(random) / Math.sqrt((normal(random) ** 2 + normal(random) ** 2 + normal(random) ** 2) / 3)) / Math.sqrt(3),
  outliers(random) {
    // Variance 0.5 of the normal part and 0.5 of the slow-downs: 2·s²/12 − (s/12)² = 0.5.
    const slow = random.below(12) === 0 ? -Math.log1p(-random.uniform()) * Math.sqrt(0.5 / (2 / 12 - 1 / 144)) : 0;
    return Math.SQRT1_2 * normal(random) + slow;
  },
  modes: (random) => Math.sqrt(0.3) * normal(random) + (random.uniform() < 0.3 ? 1 : 0) * Math.sqrt(0.7 / 0.21),
  drift: normal,
};

/** Noise inside a round over the noise of its level. */
const WITHIN = 1.5;

/** One round of a side: the log of the median of its samples and of its throughput, and the samples themselves. */
function simulateRound(model, noise, offset, random) {
  const level = offset + noise * LEVELS[model](random);
  const samples = new Float64Array(SAMPLES);
  let state = 0;
  let sum = 0;
  for (let i = 0; i < SAMPLES; i++) {
    state = 0.5 * state + Math.sqrt(0.75) * normal(random);
    const late = model === 'outliers' && random.below(30) === 0 ? -Math.log1p(-random.uniform()) * 0.3 : 0;
    samples[i] = Math.exp(level + WITHIN * noise * state + late);
    sum += samples[i];
  }
  const sorted = samples.slice().sort();
  return { logs: { 'latency-p50': Math.log(sorted[(SAMPLES - 1) / 2]), throughput: -Math.log(sum / SAMPLES) }, samples };
}

/** What the level's standard deviation must be for the rounds' medians to have `noise`. */
function calibrate({ model, noise }) {
  const random = createRandom(1);
  const medians = Array.from({ length: 4000 }, () => simulateRound(model, noise, 0, random).logs['latency-p50']);
  const centre = mean(medians);
  return (noise * noise) / Math.sqrt(mean(medians.map((value) => (value - centre) ** 2)));
}

/** Rounds of yardsticks at a log-level. */
const yardstickRounds = (level, random) =>
  Array.from({ length: STORED_ROUNDS }, () => ({
    yardstick: ['cpu-arithmetic', 'memory'].map((workload) => ({ workload, durationNs: 3e6 * Math.exp(level + 0.003 * normal(random)) })),
  }));

/** Draws a case: `before` and `after` hold its rounds, `session` what the yardsticks say. `effect` is the true log ratio. */
function syntheticCase({ model, level, design }, effect, day, random) {
  const rounds = design === 'interleaved' ? DEFAULT_LOOKS.at(-1) : STORED_ROUNDS;
  const follow = design === 'stored' ? day.shift * (0.5 + random.uniform()) + 0.003 * normal(random) : 0;
  const make = (offset) =>
    Array.from({ length: rounds }, (_, round) => {
      const drift = model === 'drift' ? (6 * level * round) / rounds : 0;
      return simulateRound(model, level, offset + drift, random);
    });
  return { before: make(0), after: make(effect + follow), session: day.session };
}

function syntheticDay({ design }, random) {
  if (design === 'interleaved') return {};
  const shift = 0.01 * normal(random);
  return { shift, session: sessionEffect(yardstickRounds(0, random), yardstickRounds(shift, random)) };
}

/** A round as it was recorded: columns p50, p95, throughput, cpu-arithmetic, memory. */
const recordedRound = ([p50, , throughput, arithmetic, memory], effect) => ({
  logs: { 'latency-p50': Math.log(p50) + effect, throughput: Math.log(throughput) - effect },
  samples: [p50 * Math.exp(effect)],
  yardstick: [
    { workload: 'cpu-arithmetic', durationNs: arithmetic },
    { workload: 'memory', durationNs: memory },
  ],
});

function recordedCase({ traces, design }, effect, _day, random) {
  const { a, b } = traces[random.below(traces.length)];
  const rounds = design === 'interleaved' ? DEFAULT_LOOKS.at(-1) : STORED_ROUNDS;
  if (design === 'interleaved') {
    const start = random.below(a.length - rounds + 1);
    const before = [];
    const after = [];
    for (let i = start; i < start + rounds; i++) {
      const [first, second] = random.below(2) === 0 ? [a[i], b[i]] : [b[i], a[i]];
      before.push(recordedRound(first, 0));
      after.push(recordedRound(second, effect));
    }
    return { before, after, session: undefined };
  }
  const gap = random.below(a.length - 2 * rounds + 1);
  const start = random.below(a.length - 2 * rounds - gap + 1);
  const side = random.below(2) === 0 ? a : b;
  const stretch = (from, effect) => side.slice(from, from + rounds).map((round) => recordedRound(round, effect));
  const sides = [stretch(start, 0), stretch(start + rounds + gap, effect)];
  const [before, after] = random.below(2) === 0 ? sides : [stretch(start + rounds + gap, 0), stretch(start, effect)];
  return { before, after, session: sessionEffect(before, after) };
}

const NO_RECORDS = { state: 'both', caseId: '', baseline: { rounds: [] }, candidate: { rounds: [] } };

/** The gate's verdict on a case after some rounds, by the project's own judge. */
function judgeCase(one, design, rounds, look) {
  const changes = METRICS.map((metric) => {
    const logs = { before: one.before.slice(0, rounds).map((round) => round.logs[metric]), after: one.after.slice(0, rounds).map((round) => round.logs[metric]) };
    const effect = one.session ?? { shift: 0, allowance: 0 };
    const session = metric === 'throughput' ? { ...effect, shift: -effect.shift } : effect;
    const levels = { confidence: policy.confidence, falseAlarms: policy.falseAlarms, ...look };
    return { kind: 'sampled', metric, baseline: 1, candidate: 1, rounds, samples: 1000, design, session, ...inferRatio(logs, design, session, levels) };
  });
  return judge({ suite: '', baseline: '', candidate: '', notices: [], cases: [{ pair: NO_RECORDS, changes }] }, policy).cases[0];
}

/** The gate on one case; `rounds` is what it took. */
function gate(one, design) {
  if (design === 'stored') return { verdict: judgeCase(one, design, STORED_ROUNDS, oneLook).verdict, rounds: STORED_ROUNDS };
  for (const [i, look] of looks.entries()) {
    const answer = judgeCase(one, design, look.rounds, levelsOf(look, FAMILY));
    if (i === looks.length - 1 || !isOpen(answer)) return { verdict: answer.verdict, rounds: look.rounds };
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** What people use, on the pooled samples: +1 slower, −1 faster, 0 neither. */
const NAIVE = {
  'mean > 1.05': (before, after) => {
    const ratio = mean(after) / mean(before);
    return ratio > 1.05 ? 1 : ratio < 0.95 ? -1 : 0;
  },
  't-test': (before, after) => {
    const [a, b] = [before, after].map((values) => {
      const centre = mean(values);
      return { centre, error: values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1) / values.length };
    });
    const t = (b.centre - a.centre) / Math.sqrt(a.error + b.error);
    return studentTail(Math.abs(t), before.length + after.length - 2) <= 0.025 ? Math.sign(t) : 0;
  },
  'Mann-Whitney': (before, after) => {
    const all = Float64Array.from([...before, ...after]).sort();
    const [n, m] = [before.length, after.length];
    const rankOf = new Map();
    for (let i = 0; i < all.length; i++) rankOf.set(all[i], i + 1);
    let ranks = 0;
    for (const value of after) ranks += rankOf.get(value);
    const z = (ranks - (m * (m + 1)) / 2 - (n * m) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12);
    return normalTail(Math.abs(z)) <= 0.025 ? Math.sign(z) : 0;
  },
};

const pooled = (rounds) => rounds.flatMap((round) => [...round.samples]);

/** All rates of one row. Four suites' worth of draws share one random stream: identical, +5 %, +10 %, −5 % in the first case. */
function simulate(asked, seed) {
  const row = asked.traces ? asked : { ...asked, level: calibrate(asked) };
  const random = createRandom(seed);
  const draw = row.traces ? recordedCase : syntheticCase;
  const tally = { alarms: 0, praise: 0, undecided: 0, rounds: 0, found5: 0, found10: 0, improved: 0, missed5: 0 };
  const naive = Object.fromEntries(Object.keys(NAIVE).map((name) => [name, { alarms: 0, found5: 0 }]));
  for (let suite = 0; suite < SUITES; suite++) {
    const day = row.traces ? undefined : syntheticDay(row, random);
    const cases = Array.from({ length: CASES }, () => draw(row, 0, day, random));
    const answers = cases.map((one) => gate(one, row.design));
    if (answers.some(({ verdict }) => verdict === 'regressed')) tally.alarms++;
    if (answers.some(({ verdict }) => verdict === 'improved')) tally.praise++;
    tally.undecided += answers.filter(({ verdict }) => verdict === 'inconclusive').length / CASES;
    tally.rounds += mean(answers.map(({ rounds }) => rounds));
    const slower = draw(row, Math.log(1.05), day, random);
    const found = gate(slower, row.design).verdict;
    if (found === 'regressed') tally.found5++;
    if (found === 'passed') tally.missed5++;
    if (gate(draw(row, Math.log(1.1), day, random), row.design).verdict === 'regressed') tally.found10++;
    if (gate(draw(row, Math.log(0.95), day, random), row.design).verdict === 'improved') tally.improved++;
    if (row.traces) continue;
    for (const [name, rule] of Object.entries(NAIVE)) {
      if (cases.some(({ before, after }) => rule(pooled(before), pooled(after)) > 0)) naive[name].alarms++;
      if (rule(pooled(slower.before), pooled(slower.after)) > 0) naive[name].found5++;
    }
  }
  const share = (count) => count / SUITES;
  return {
    ...row,
    ...Object.fromEntries(Object.entries(tally).map(([name, count]) => [name, share(count)])),
    naive: row.traces ? undefined : Object.fromEntries(Object.entries(naive).map(([name, rule]) => [name, { alarms: share(rule.alarms), found5: share(rule.found5) }])),
  };
}

async function recordedRows() {
  const folder = new URL('noise/', import.meta.url);
  const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
  const traces = await Promise.all(files.map(async (file) => JSON.parse(await readFile(new URL(file, folder), 'utf8')).cases));
  return ['interleaved', 'stored'].flatMap((design) => files.map((file, i) => ({ model: file.replace('.json', ''), noise: undefined, design, traces: traces[i] })));
}

const synthetic = ['interleaved', 'stored'].flatMap((design) =>
  Object.keys(LEVELS).flatMap((model) => [0.005, 0.01, 0.02, 0.05].map((noise) => ({ model, noise, design, traces: undefined }))),
);
const rows = [...synthetic, ...(await recordedRows())].filter((row) => `${row.design} ${row.model} ${row.noise}`.includes(values.only));

const percent = (value) => (value === undefined ? '–' : `${Number((value * 100).toFixed(1))}`);
const HEADS = ['design', 'noise', '%', 'false alarms', 'false praise', 'undecided', 'rounds', '+5 % found', '+10 % found', '−5 % found', '+5 % passed', 'mean > 1.05', 't-test', 'Mann-Whitney'];
const pair = (rule) => (rule ? `${percent(rule.alarms)} / ${percent(rule.found5)}` : '–');
const cellsOf = (row) => [
  row.design,
  row.model,
  percent(row.noise),
  ...[row.alarms, row.praise, row.undecided].map(percent),
  row.rounds.toFixed(1),
  ...[row.found5, row.found10, row.improved, row.missed5].map(percent),
  ...Object.keys(NAIVE).map((name) => pair(row.naive?.[name])),
];
const line = (cells) => (values.markdown ? `| ${cells.join(' | ')} |` : cells.map((cell, i) => cell.padEnd(Math.max(HEADS[i].length, i === 1 ? 16 : 11) + 2)).join('')).trimEnd();

process.stdout.write(`${line(HEADS)}\n${values.markdown ? `${line(HEADS.map(() => '---'))}\n` : ''}`);
for (const [seed, row] of rows.entries()) {
  const result = simulate(row, seed + 1);
  process.stdout.write(`${line(cellsOf(result))}\n`);
  const promised = result.noise === undefined || ((result.noise > 0.02 || Math.min(result.found5, result.improved) >= 0.9) && result.found10 >= 0.9);
  if (result.alarms > 0.01 || (row.design === 'interleaved' && !promised)) process.exitCode = 1;
}
