/**
 * How often the gate is right, by simulation: false alarms over suites of identical engines, and how often a change of a known
 * size is found; beside it the rules that people use, on the same data.
 *
 *     npm run build && npm run bench:gate [-- --suites 500 --markdown]
 *
 * A suite has 12 cases and four metrics: the median latency and the throughput, which decide, and load time and first
 * inference, which are watched at the default policy's thresholds and scatter by 10 %, with tails. A round of a side is a process
 * with a level of its own, log-normal around the truth, and 25 samples around that level, each correlated with the one before.
 * The "noise" of a row is the standard deviation of the logarithm of the rounds' medians, in percent, all of its components
 * together:
 *
 *     normal    a normal level
 *     tails     Student's t with 3 degrees of freedom
 *     outliers  normal, but one round in 12 is slowed, by an exponential variate; so is one sample in 30
 *     modes     a process is fast or slow (30 % slow), and normal besides
 *     drift     normal, and the machine slows down by 6 times the noise during the run, for both sides alike
 *
 * and what the machine does over time, one process after the other, with a tenth of the variance normal besides:
 *
 *     bursts    a neighbour comes at one process in 20, stays for 8 on average, and slows what runs by an exponential variate
 *     clock     the clock has two speeds and changes after 12 processes on average; the arithmetic yardstick sees it, that of
 *               memory does not
 *     wander    a level that wanders (autoregressive, 0.95 from process to process), and no yardstick sees it
 *     order     the second process of each pair is slower, always by the same; interleaved only
 *
 * Two designs. Interleaved: both sides are measured in the same rounds, looks after 8, 12, 18 and 24, cases that are decided
 * leave. Stored: 24 rounds of today against 24 of another day, on which the machine was slower or faster by 1 % (standard
 * deviation); yardsticks see that to 0.3 % in each round, the engine follows it by half to one and a half, and differs by 0.3 % besides.
 *
 * Recorded noise (bench/noise) comes from pairs of identical engines on real machines (bench/record-noise.mjs): each case of a
 * suite is a stretch of consecutive rounds of one of them, the sides swapped at random round by round as a random order would;
 * against a stored baseline, two stretches of the same engine that do not overlap. Samples were not recorded: the rules that
 * people use are applied to the rounds' medians there, which is kinder to them.
 *
 * Exit status 0: at most 1 % of the suites of every row raised a false alarm, and every row with a promise keeps it; else 1.
 */
import { readdir, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { judge } from '../dist/src/gate/judge.js';
import { DEFAULT_POLICY } from '../dist/src/gate/policy.js';
import { DEFAULT_LOOKS, isOpen, levelsOf, planLooks } from '../dist/src/gate/sequential.js';
import { effectiveFamily } from '../dist/src/gate/series.js';
import { sessionEffect, startupEffect } from '../dist/src/gate/session.js';
import { inferRatio } from '../dist/src/gate/timed.js';
import { createRandom, normal } from '../dist/src/stats/random.js';
import { normalTail, studentTail } from '../dist/src/stats/student.js';

const { values } = parseArgs({
  options: { suites: { type: 'string', default: '500' }, markdown: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
});
const SUITES = Number(values.suites);
const CASES = 12;
const METRICS = ['latency-p50', 'throughput', 'load-time', 'first-inference'];
const FAMILY = CASES * METRICS.length;
const familyOf = (metric) => effectiveFamily(metric, FAMILY, METRICS);
const SAMPLES = 25;
const STORED_ROUNDS = 24;
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

/** Series of log-levels of the machine, process by process, by model; the yardsticks' share of them is `seen`, by workload. */
const MACHINES = {
  bursts: {
    seen: { 'cpu-arithmetic': 0.5, memory: 0.5 },
    *levels(random) {
      for (let slow = 0; ; ) {
        if (slow > 0) slow = random.below(8) === 0 ? 0 : slow;
        else if (random.below(20) === 0) slow = -Math.log1p(-random.uniform());
        yield slow;
      }
    },
  },
  clock: {
    seen: { 'cpu-arithmetic': 1, memory: 0 },
    *levels(random) {
      for (let mode = random.below(2); ; ) {
        if (random.below(12) === 0) mode = 1 - mode;
        yield mode;
      }
    },
  },
  wander: {
    seen: { 'cpu-arithmetic': 0, memory: 0 },
    *levels(random) {
      for (let state = normal(random); ; state = 0.95 * state + Math.sqrt(1 - 0.95 ** 2) * normal(random)) yield state;
    },
  },
  order: {
    seen: { 'cpu-arithmetic': 0, memory: 0 },
    *levels(random) {
      for (let second = random.below(2); ; second = 1 - second) yield second;
    },
  },
};

/** Standard deviation of a machine's series. */
function spreadOf(model) {
  const levels = MACHINES[model].levels(createRandom(2));
  const values = Array.from({ length: 20_000 }, () => levels.next().value);
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

/** Share of the noise's variance that the machine's series has; the rest is the process's own. */
const MACHINE_SHARE = 0.9;

/** Noise inside a round over the noise of its level. */
const WITHIN = 1.5;

/** What a start took: a deviation of 10 %, Student's t with 3 degrees of freedom. */
const start = (random) => 0.1 * LEVELS.tails(random);

/** One round of a side: the log of the median of its samples and of its throughput, and the samples themselves. */
function simulateRound(model, noise, offset, random) {
  const level = offset + noise * (LEVELS[model] ? LEVELS[model](random) : Math.sqrt(1 - MACHINE_SHARE) * normal(random));
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
  const logs = { 'latency-p50': Math.log(sorted[(SAMPLES - 1) / 2]), throughput: -Math.log(sum / SAMPLES), 'load-time': start(random), 'first-inference': start(random) };
  return { logs, samples };
}

/** What the level's standard deviation must be for the rounds' medians to have `noise`. */
function calibrate({ model, noise }) {
  const random = createRandom(1);
  const machine = machineOf(model, noise, random);
  const medians = Array.from({ length: 4000 }, () => simulateRound(model, noise, machine().level, random).logs['latency-p50']);
  const centre = mean(medians);
  return (noise * noise) / Math.sqrt(mean(medians.map((value) => (value - centre) ** 2)));
}

/** Deviation of a yardstick's reading. */
const READING = 0.003;

/** The machine from one process to the next: its log-level, and what its yardsticks read besides `shift`. */
function machineOf(model, noise, random) {
  const machine = MACHINES[model];
  const levels = machine?.levels(random);
  const scale = machine ? (noise * Math.sqrt(MACHINE_SHARE)) / spreads[model] : 0;
  return (shift = 0) => {
    const level = levels ? scale * levels.next().value : 0;
    const read = (workload) => ({ workload, durationNs: 3e6 * Math.exp(shift + (machine?.seen[workload] ?? 0) * level + READING * normal(random)) });
    return { level, yardstick: ['cpu-arithmetic', 'memory'].map(read) };
  };
}

/** Draws a case: `before` and `after` hold its rounds, `session` what the yardsticks say. `effect` is the true log ratio. */
function syntheticCase({ model, level, design }, effect, day, random) {
  if (design === 'stored') return storedCase(model, level, effect, day, random);
  const rounds = DEFAULT_LOOKS.at(-1);
  const machine = machineOf(model, level, random);
  const sides = [[], []];
  for (let round = 0; round < rounds; round++) {
    const drift = model === 'drift' ? (6 * level * round) / rounds : 0;
    const first = random.below(2);
    for (const side of [first, 1 - first]) sides[side].push(simulateRound(model, level, drift + machine().level + side * effect, random));
  }
  return { before: sides[0], after: sides[1], session: undefined };
}

function storedCase(model, level, effect, day, random) {
  const follow = day.shift * (0.5 + random.uniform()) + 0.003 * normal(random);
  const make = (offset, shift) => {
    const machine = machineOf(model, level, random);
    return Array.from({ length: STORED_ROUNDS }, (_, round) => {
      const drift = model === 'drift' ? (6 * level * round) / STORED_ROUNDS : 0;
      const { level: state, yardstick } = machine(shift);
      // Between two rounds of a case the suite's other cases run.
      for (let other = 1; MACHINES[model] && other < CASES; other++) machine();
      return { ...simulateRound(model, level, offset + drift + state, random), yardstick };
    });
  };
  const [before, after] = [make(0, 0), make(effect + follow, day.shift)];
  return { before, after, session: sessionEffect(before, after) };
}

const syntheticDay = ({ design }, random) => (design === 'stored' ? { shift: 0.01 * normal(random) } : {});

/** A round as it was recorded: columns p50, p95, throughput, cpu-arithmetic, memory, and in later recordings load, first inference. */
const recordedRound = ([p50, , throughput, arithmetic, memory, load, first], effect) => ({
  logs: { 'latency-p50': Math.log(p50) + effect, throughput: Math.log(throughput) - effect, ...(load && { 'load-time': Math.log(load), 'first-inference': Math.log(first) }) },
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
  const changes = METRICS.filter((metric) => one.before[0].logs[metric] !== undefined).map((metric) => {
    const logs = { before: one.before.slice(0, rounds).map((round) => round.logs[metric]), after: one.after.slice(0, rounds).map((round) => round.logs[metric]) };
    const effect = one.session ?? { shift: 0, allowance: 0 };
    const startup = metric === 'load-time' || metric === 'first-inference';
    const ours = startup && design === 'stored' ? startupEffect(effect) : effect;
    const session = metric === 'throughput' ? { ...ours, shift: -ours.shift } : ours;
    const levels = { confidence: policy.confidence, falseAlarms: policy.falseAlarms, ...look, family: familyOf(metric) };
    return { kind: 'sampled', metric, baseline: 1e3, candidate: 2e3, rounds, samples: 1000, design, session, ...inferRatio(logs, design, session, levels) };
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
    for (const [name, rule] of Object.entries(NAIVE)) {
      if (cases.some(({ before, after }) => rule(pooled(before), pooled(after)) > 0)) naive[name].alarms++;
      if (rule(pooled(slower.before), pooled(slower.after)) > 0) naive[name].found5++;
    }
  }
  const share = (count) => count / SUITES;
  return {
    ...row,
    ...Object.fromEntries(Object.entries(tally).map(([name, count]) => [name, share(count)])),
    naive: Object.fromEntries(Object.entries(naive).map(([name, rule]) => [name, { alarms: share(rule.alarms), found5: share(rule.found5) }])),
  };
}

async function recordedRows() {
  const folder = new URL('noise/', import.meta.url);
  const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
  const traces = await Promise.all(files.map(async (file) => JSON.parse(await readFile(new URL(file, folder), 'utf8')).cases));
  return ['interleaved', 'stored'].flatMap((design) => files.map((file, i) => ({ model: file.replace('.json', ''), noise: undefined, design, traces: traces[i] })));
}

const spreads = Object.fromEntries(Object.keys(MACHINES).map((model) => [model, spreadOf(model)]));
const synthetic = ['interleaved', 'stored'].flatMap((design) =>
  [...Object.keys(LEVELS), ...Object.keys(MACHINES)].filter((model) => design === 'interleaved' || model !== 'order').flatMap((model) => [0.005, 0.01, 0.02, 0.05].map((noise) => ({ model, noise, design, traces: undefined }))),
);
// A row has the same seed whatever rows are asked for.
const rows = [...synthetic, ...(await recordedRows())].map((row, i) => ({ ...row, seed: i + 1 })).filter((row) => `${row.design} ${row.model} ${row.noise}`.includes(values.only));

const percent = (value) => (value === undefined ? '–' : `${Number((value * 100).toFixed(1))}`);
const HEADS = ['design', 'noise', '%', 'false alarms', 'false praise', 'undecided', 'rounds', '+5 % found', '+10 % found', '−5 % found', '+5 % passed', 'mean > 1.05', 't-test', 'Mann-Whitney'];
const pair = (rule) => `${percent(rule.alarms)} / ${percent(rule.found5)}`;
const cellsOf = (row) => [
  row.design,
  row.model,
  percent(row.noise),
  ...[row.alarms, row.praise, row.undecided].map(percent),
  row.rounds.toFixed(1),
  ...[row.found5, row.found10, row.improved, row.missed5].map(percent),
  ...Object.keys(NAIVE).map((name) => pair(row.naive[name])),
];
const line = (cells) => (values.markdown ? `| ${cells.join(' | ')} |` : cells.map((cell, i) => cell.padEnd(Math.max(HEADS[i].length, i === 1 ? 16 : 11) + 2)).join('')).trimEnd();

process.stdout.write(`${line(HEADS)}\n${values.markdown ? `${line(HEADS.map(() => '---'))}\n` : ''}`);
for (const row of rows) {
  const result = simulate(row, row.seed);
  process.stdout.write(`${line(cellsOf(result))}\n`);
  // An order that always costs 10 % of one side is no noise of rounds: nothing is promised under it.
  const promised = result.noise === undefined || (result.model === 'order' && result.noise > 0.02) || ((result.noise > 0.02 || Math.min(result.found5, result.improved) >= 0.9) && result.found10 >= 0.9);
  if (result.alarms > 0.01 || (row.design === 'interleaved' && !promised)) process.exitCode = 1;
}
