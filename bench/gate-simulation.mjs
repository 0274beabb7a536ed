/**
 * How often the gate is right, by simulation: false alarms over suites of identical engines, and how often a change of a known
 * size is found; beside it the rules that people use, on the same data.
 *
 *     npm run build && npm run bench:gate [-- --suites 500 --markdown] [--only 'stored drift']
 *     npm run bench:gate -- --recording FILE|FOLDER …        noise of a machine of yours, in place of all rows
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
 * and, at the end, what the statistics were not made with in mind, at 2 and 5 % (where power is stated, but not asked for):
 *
 *     skew        a log-normal level, of unit deviation before it is scaled
 *     rare        one process in 20 takes another, slower way
 *     cauchy      a Cauchy variate, cut off at 30 of its units
 *     quantized   normal, by a clock that ticks at 2 % of a sample
 *     few         normal, 3 samples a round
 *     dependent   normal, and the samples of a round follow each other (0.98)
 *     periodic    two processes of five are slow, whichever they are
 *     step        the clock steps down once, after 32 processes on average; the arithmetic yardstick sees it
 *     throttle    a slow level is approached from the first process on; the yardsticks see all and a third of it
 *     sticky      a level that wanders fast and slowly at once (0.9, 0.99, 0.998), and no yardstick sees it
 *
 * Three designs. Interleaved: both sides are measured in the same rounds, looks after 8, 12, 16, 24, 32 and 48, cases that are decided
 * leave. Stored: 24 rounds of today against 24 of another day, on which the machine was slower or faster by 1 % (standard
 * deviation); yardsticks see that to 0.3 % in each round, the engine follows it by half to one and a half, and differs by 0.3 % besides.
 * Measured: the same 24 stored rounds, and looks at today's as they grow (`gate --measure`).
 *
 * Recorded noise (bench/noise) comes from pairs of identical engines on real machines (bench/record-noise.mjs): each case of a
 * suite is a stretch of consecutive rounds of one of them, the sides swapped at random round by round as a random order would;
 * against a stored baseline, two stretches of the same engine that do not overlap. Samples were not recorded: the rules that
 * people use are applied to the rounds' medians there, which is kinder to them. Their "noise" is the deviation of all rounds of
 * their cases, slow outliers included; where it is at most 5 %, the same is asked of them as of the others.
 *
 * Exit status 0: at most 1 % of the suites of every row raised a false alarm (but for stored sides of a `sticky` machine, where nothing
 * can tell the machine from the program), and every row with a promise keeps it; else 1.
 */
import { parseArgs } from 'node:util';
import { judge } from '../dist/src/gate/judge.js';
import { DEFAULT_POLICY } from '../dist/src/gate/policy.js';
import { isOpen, levelsOf, PAIRED_LOOKS, planLooks, STORED_LOOKS } from '../dist/src/gate/sequential.js';
import { effectiveFamily } from '../dist/src/gate/series.js';
import { sessionEffect, startupEffect } from '../dist/src/gate/session.js';
import { inferRatio } from '../dist/src/gate/timed.js';
import { createRandom, normal } from '../dist/src/stats/random.js';
import { NAIVE } from './gate-simulation/naive.mjs';
import { HOSTILE_LEVELS, HOSTILE_MACHINES, LEVELS, levelOf, machineModel, MACHINES, samplingOf, spreadOf, tails } from './gate-simulation/noises.mjs';
import { recordedRows } from './gate-simulation/recordings.mjs';

const { values } = parseArgs({
  options: { suites: { type: 'string', default: '500' }, markdown: { type: 'boolean', default: false }, only: { type: 'string', default: '' }, recording: { type: 'string', multiple: true, default: [] } },
});
const SUITES = Number(values.suites);
const CASES = 12;
const METRICS = ['latency-p50', 'throughput', 'load-time', 'first-inference'];
const FAMILY = CASES * METRICS.length;
const familyOf = (metric) => effectiveFamily(metric, FAMILY, METRICS);
const STORED_ROUNDS = 24;
const policy = { ...DEFAULT_POLICY, thresholds: { 'latency-p50': 5, throughput: 5 } };
const looksOf = (design) => planLooks(design === 'interleaved' ? PAIRED_LOOKS : STORED_LOOKS);
const oneLook = { alarmShare: 1, doubtShare: 1, family: FAMILY };

/** Share of the noise's variance that the machine's series has; the rest is the process's own. */
const MACHINE_SHARE = 0.9;

/** Noise inside a round over the noise of its level. */
const WITHIN = 1.5;

/** What a start took: a deviation of 10 %, Student's t with 3 degrees of freedom. */
const start = (random) => 0.1 * tails(random);

/** One round of a side: the log of the median of its samples and of its throughput, and the samples themselves. */
function simulateRound(model, noise, offset, random) {
  const own = levelOf(model);
  const { count, follows, quantum } = samplingOf(model);
  const level = offset + noise * (own ? own(random) : Math.sqrt(1 - MACHINE_SHARE) * normal(random));
  const samples = new Float64Array(count);
  let state = 0;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    state = follows * state + Math.sqrt(1 - follows ** 2) * normal(random);
    const late = model === 'outliers' && random.below(30) === 0 ? -Math.log1p(-random.uniform()) * 0.3 : 0;
    const sample = Math.exp(level + WITHIN * noise * state + late);
    samples[i] = quantum > 0 ? Math.max(1, Math.round(sample / quantum)) * quantum : sample;
    sum += samples[i];
  }
  const sorted = samples.slice().sort();
  const logs = { 'latency-p50': Math.log(sorted[(count - 1) / 2]), throughput: -Math.log(sum / count), 'load-time': start(random), 'first-inference': start(random) };
  return { logs, samples };
}

/** What the level's standard deviation must be for the rounds' medians to have `noise`. */
function calibrate({ model, noise }) {
  const random = createRandom(1);
  const run = machineModel(model)?.run ?? Infinity;
  let machine = machineOf(model, noise, random);
  const medians = Array.from({ length: 4000 }, (_, i) => {
    if (i > 0 && i % run === 0) machine = machineOf(model, noise, random);
    return simulateRound(model, noise, machine().level, random).logs['latency-p50'];
  });
  const centre = mean(medians);
  return (noise * noise) / Math.sqrt(mean(medians.map((value) => (value - centre) ** 2)));
}

/** Deviation of a yardstick's reading. */
const READING = 0.003;

/** The machine from one process to the next: its log-level, and what its yardsticks read besides `shift`. */
function machineOf(model, noise, random) {
  const machine = machineModel(model);
  const levels = machine?.levels(random);
  const scale = machine ? (noise * Math.sqrt(MACHINE_SHARE)) / spreads[model] : 0;
  return (shift = 0) => {
    const level = levels ? scale * levels.next().value : 0;
    const read = (workload) => ({ workload, durationNs: 3e6 * Math.exp(shift + (machine?.seen[workload] ?? 0) * level + READING * normal(random)) });
    return { level, yardstick: ['cpu-arithmetic', 'memory'].map(read) };
  };
}

/** Draws a case: `before` and `after` hold its rounds. `effect` is the true log ratio. */
function syntheticCase({ model, level, design }, effect, day, random) {
  if (design !== 'interleaved') return storedCase(model, level, effect, day, random);
  const rounds = PAIRED_LOOKS.at(-1);
  const machine = machineOf(model, level, random);
  const sides = [[], []];
  for (let round = 0; round < rounds; round++) {
    const drift = model === 'drift' ? (6 * level * round) / rounds : 0;
    const first = random.below(2);
    for (const side of [first, 1 - first]) sides[side].push(simulateRound(model, level, drift + machine().level + side * effect, random));
  }
  return { before: sides[0], after: sides[1] };
}

function storedCase(model, level, effect, day, random) {
  const follow = day.shift * (0.5 + random.uniform()) + 0.003 * normal(random);
  const make = (offset, shift) => {
    const machine = machineOf(model, level, random);
    return Array.from({ length: STORED_ROUNDS }, (_, round) => {
      const drift = model === 'drift' ? (6 * level * round) / STORED_ROUNDS : 0;
      const { level: state, yardstick } = machine(shift);
      // Between two rounds of a case the suite's other cases run.
      for (let other = 1; machineModel(model) && other < CASES; other++) machine();
      return { ...simulateRound(model, level, offset + drift + state, random), yardstick };
    });
  };
  const [before, after] = [make(0, 0), make(effect + follow, day.shift)];
  return { before, after };
}

const syntheticDay = ({ design }, random) => (design === 'interleaved' ? {} : { shift: 0.01 * normal(random) });

/** A round as it was recorded, of an engine that is slower by a factor. */
const recordedRound = ({ p50, throughput, load, first, yardstick }, effect) => ({
  logs: {
    'latency-p50': Math.log(p50) + effect,
    ...(throughput > 0 && { throughput: Math.log(throughput) - effect }),
    ...(load > 0 && { 'load-time': Math.log(load) }),
    ...(first > 0 && { 'first-inference': Math.log(first) }),
  },
  samples: [p50 * Math.exp(effect)],
  yardstick,
});

function recordedCase({ traces, design }, effect, _day, random) {
  const { a, b } = traces[random.below(traces.length)];
  const rounds = design === 'interleaved' ? PAIRED_LOOKS.at(-1) : STORED_ROUNDS;
  if (design === 'interleaved') {
    const start = random.below(a.length - rounds + 1);
    const before = [];
    const after = [];
    for (let i = start; i < start + rounds; i++) {
      const [first, second] = random.below(2) === 0 ? [a[i], b[i]] : [b[i], a[i]];
      before.push(recordedRound(first, 0));
      after.push(recordedRound(second, effect));
    }
    return { before, after };
  }
  const gap = random.below(a.length - 2 * rounds + 1);
  const start = random.below(a.length - 2 * rounds - gap + 1);
  const side = random.below(2) === 0 ? a : b;
  const stretch = (from, effect) => side.slice(from, from + rounds).map((round) => recordedRound(round, effect));
  const sides = [stretch(start, 0), stretch(start + rounds + gap, effect)];
  const [before, after] = random.below(2) === 0 ? sides : [stretch(start + rounds + gap, 0), stretch(start, effect)];
  return { before, after };
}

const NO_RECORDS = { state: 'both', caseId: '', baseline: { rounds: [] }, candidate: { rounds: [] } };

/** The gate's verdict on a case after some rounds, by the project's own judge. */
function judgeCase({ before: all, after: growing }, design, rounds, look) {
  const after = growing.slice(0, rounds);
  const before = design === 'interleaved' ? all.slice(0, rounds) : all;
  const effect = design === 'interleaved' ? { shift: 0, allowance: 0 } : sessionEffect(before, after);
  const changes = METRICS.filter((metric) => before[0].logs[metric] !== undefined).map((metric) => {
    const logs = { before: before.map((round) => round.logs[metric]), after: after.map((round) => round.logs[metric]) };
    const startup = metric === 'load-time' || metric === 'first-inference';
    const ours = startup && design !== 'interleaved' ? startupEffect(effect) : effect;
    const session = metric === 'throughput' ? { ...ours, shift: -ours.shift } : ours;
    const levels = { confidence: policy.confidence, falseAlarms: policy.falseAlarms, ...look, family: familyOf(metric) };
    const paired = design === 'interleaved' ? 'interleaved' : 'stored';
    return { kind: 'sampled', metric, baseline: 1e3, candidate: 2e3, rounds, samples: 1000, design: paired, session, ...inferRatio(logs, paired, session, levels) };
  });
  return judge({ suite: '', baseline: '', candidate: '', notices: [], cases: [{ pair: NO_RECORDS, changes }] }, policy).cases[0];
}

/** The gate on one case; `rounds` is what it took. */
function gate(one, design) {
  if (design === 'stored') return { verdict: judgeCase(one, design, STORED_ROUNDS, oneLook).verdict, rounds: STORED_ROUNDS };
  const looks = looksOf(design);
  for (const [i, look] of looks.entries()) {
    const answer = judgeCase(one, design, look.rounds, levelsOf(look, FAMILY));
    if (i === looks.length - 1 || !isOpen(answer)) return { verdict: answer.verdict, rounds: look.rounds };
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

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

const spreads = Object.fromEntries([...Object.keys(MACHINES), ...Object.keys(HOSTILE_MACHINES)].map((model) => [model, spreadOf(model)]));
const DESIGNS = ['interleaved', 'stored'];
const rowsOf = (models, noises, designs = DESIGNS) =>
  designs.flatMap((design) => models.filter((model) => design === 'interleaved' || model !== 'order').flatMap((model) => noises.map((noise) => ({ model, noise, design, traces: undefined }))));
const synthetic = rowsOf([...Object.keys(LEVELS), ...Object.keys(MACHINES)], [0.005, 0.01, 0.02, 0.05]);
const hostile = rowsOf([...Object.keys(HOSTILE_LEVELS), ...Object.keys(HOSTILE_MACHINES)], [0.02, 0.05]).map((row) => ({ ...row, hostile: true }));
const measured = rowsOf([...Object.keys(LEVELS), ...Object.keys(MACHINES)], [0.02], ['measured']);
const recorded = await recordedRows(values.recording, { interleaved: PAIRED_LOOKS.at(-1), stored: STORED_ROUNDS });
// A row has the same seed whatever rows are asked for.
const all = values.recording.length > 0 ? recorded : [...synthetic, ...recorded, ...hostile, ...measured];
const rows = all.map((row, i) => ({ ...row, seed: i + 1 })).filter((row) => `${row.design} ${row.model} ${row.noise}`.includes(values.only));

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

/** What has no noise is exact: at its budget it passes, the least beyond is regressed. Returns how many random values were judged so. */
function countExact(metric, draw) {
  const random = createRandom(SUITES);
  const verdict = (baseline, candidate) => {
    const exact = { ...policy, thresholds: { [metric]: metric === 'memory-peak' ? 5 : 0.5 } };
    return judge({ suite: '', baseline: '', candidate: '', notices: [], cases: [{ pair: NO_RECORDS, changes: [{ kind: 'exact', metric, baseline, candidate }] }] }, exact).cases[0].verdict;
  };
  const right = Array.from({ length: SUITES }, () => draw(random)).filter(({ baseline, within, beyond }) => verdict(baseline, within) === 'passed' && verdict(baseline, beyond) === 'regressed');
  return right.length;
}

function printExact() {
  const memory = countExact('memory-peak', (random) => {
    const baseline = 20 * (2 ** 23 + random.below(2 ** 31));
    return { baseline, within: baseline * 1.05, beyond: baseline * 1.05 + 1 };
  });
  const accuracy = countExact('top1', (random) => {
    const right = 600 + random.below(400);
    return { baseline: right / 10, within: (right - 5) / 10, beyond: (right - 6) / 10 };
  });
  process.stdout.write(`\nexact, of ${SUITES} each: memory at 5 % passes and 1 byte more is regressed ${memory}; top-1 of 1,000 images 0.5 points lower passes and one image more is regressed ${accuracy}\n`);
  if (memory < SUITES || accuracy < SUITES) process.exitCode = 1;
}

if (rows.length === 0) throw new Error(`no row is called '${values.only}'`);

/** What is asked of a row; where nothing is promised, only that alarms are few. */
function keepsPromise({ alarms, design, model, noise, hostile, found5, found10, improved }) {
  // A level that lasts for longer than a run, and that no yardstick sees, is what another day's program would look like.
  if (model === 'sticky' && design !== 'interleaved') return true;
  if (alarms > 0.01) return false;
  // An order that always costs 10 % of one side is no noise of rounds.
  if (design !== 'interleaved' || noise > 0.05 || ((model === 'order' || hostile) && noise > 0.02)) return true;
  return found10 >= 0.9 && (noise > 0.02 || Math.min(found5, improved) >= 0.9);
}

process.stdout.write(`${line(HEADS)}\n${values.markdown ? `${line(HEADS.map(() => '---'))}\n` : ''}`);
for (const row of rows) {
  if (row.tooShort) {
    process.stdout.write(`${row.design} ${row.model}: ${row.tooShort}\n`);
    continue;
  }
  const result = simulate(row, row.seed);
  process.stdout.write(`${line(cellsOf(result))}\n`);
  if (!keepsPromise(result)) process.exitCode = 1;
}
if (values.only === '' && values.recording.length === 0) printExact();
