/**
 * What timings do, as the gate's simulation draws them. Levels are of a process and independent of each other; a machine's series
 * goes on from one process to the next. All have unit deviation, but for the hostile ones, which are scaled by what they show.
 */
import { createRandom, normal } from '../../dist/src/stats/random.js';

const exponential = (random) => -Math.log1p(-random.uniform());

/** Student's t with 3 degrees of freedom. */
export const tails = (random) => normal(random) / Math.sqrt((normal(random) ** 2 + normal(random) ** 2 + normal(random) ** 2) / 3) / Math.sqrt(3);

/** Log-levels of processes. */
export const LEVELS = {
  normal,
  tails,
  outliers(random) {
    // Variance 0.5 of the normal part and 0.5 of the slow-downs: 2·s²/12 − (s/12)² = 0.5.
    const slow = random.below(12) === 0 ? exponential(random) * Math.sqrt(0.5 / (2 / 12 - 1 / 144)) : 0;
    return Math.SQRT1_2 * normal(random) + slow;
  },
  modes: (random) => Math.sqrt(0.3) * normal(random) + (random.uniform() < 0.3 ? 1 : 0) * Math.sqrt(0.7 / 0.21),
  drift: normal,
};

/** Series of log-levels of the machine, process by process; the yardsticks' share of them is `seen`, by workload. */
export const MACHINES = {
  bursts: {
    seen: { 'cpu-arithmetic': 0.5, memory: 0.5 },
    *levels(random) {
      for (let slow = 0; ; ) {
        if (slow > 0) slow = random.below(8) === 0 ? 0 : slow;
        else if (random.below(20) === 0) slow = exponential(random);
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

/** What the gate was not made with in mind: rows of their own. */
export const HOSTILE_LEVELS = {
  skew: (random) => (Math.exp(normal(random)) - Math.exp(0.5)) / Math.sqrt((Math.E - 1) * Math.E),
  // Variance p·(1−p)·s² = 0.9.
  rare: (random) => Math.sqrt(0.1) * normal(random) + (random.below(20) === 0 ? Math.sqrt(0.9 / (0.05 * 0.95)) : 0),
  cauchy: (random) => Math.max(-30, Math.min(30, Math.tan(Math.PI * (random.uniform() - 0.5)))),
  quantized: normal,
  few: normal,
  dependent: normal,
};

/** `run`: processes of one series, where it is no stationary one. */
export const HOSTILE_MACHINES = {
  periodic: {
    seen: { 'cpu-arithmetic': 0, memory: 0 },
    *levels(random) {
      for (let at = random.below(5); ; at = (at + 1) % 5) yield at < 2 ? 1 : 0;
    },
  },
  step: {
    run: 48,
    seen: { 'cpu-arithmetic': 1, memory: 0 },
    *levels(random) {
      for (let slow = 0; ; ) {
        if (random.below(32) === 0) slow = 1;
        yield slow;
      }
    },
  },
  throttle: {
    run: 48,
    seen: { 'cpu-arithmetic': 1, memory: 0.3 },
    *levels() {
      for (let at = 0; ; at++) yield 1 - Math.exp(-at / 16);
    },
  },
  sticky: {
    run: 48,
    seen: { 'cpu-arithmetic': 0, memory: 0 },
    *levels(random) {
      const rates = [0.9, 0.99, 0.998];
      const states = rates.map(() => normal(random));
      for (;;) {
        for (const [i, rate] of rates.entries()) states[i] = rate * states[i] + Math.sqrt(1 - rate ** 2) * normal(random);
        yield states.reduce((sum, state) => sum + state, 0);
      }
    },
  },
};

/** Samples of a round: how many, how much each follows the one before, and the clock's quantum as a share of a sample. */
const SAMPLING = { count: 25, follows: 0.5, quantum: 0 };
const SAMPLINGS = { quantized: { ...SAMPLING, quantum: 0.02 }, few: { ...SAMPLING, count: 3 }, dependent: { ...SAMPLING, follows: 0.98 } };

export const samplingOf = (model) => SAMPLINGS[model] ?? SAMPLING;
export const levelOf = (model) => LEVELS[model] ?? HOSTILE_LEVELS[model];
export const machineModel = (model) => MACHINES[model] ?? HOSTILE_MACHINES[model];

/** Standard deviation of a machine's series. */
export function spreadOf(model) {
  const { levels, run = Infinity } = machineModel(model);
  const random = createRandom(2);
  const values = [];
  for (let series = levels(random); values.length < 20_000; ) {
    values.push(series.next().value);
    if (values.length % run === 0) series = levels(random);
  }
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}
