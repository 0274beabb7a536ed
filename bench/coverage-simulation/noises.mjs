/**
 * What latencies do, as the simulation of intervals draws them: factors around 1, round by round.
 */
import { normal } from '../../dist/src/stats/random.js';
import { LEVELS } from '../gate-simulation/noises.mjs';

const exponential = (random) => -Math.log1p(-random.uniform());

/** First-order autoregressive, variance 1. */
function follows(rho, random) {
  let state = normal(random);
  return () => (state = rho * state + Math.sqrt(1 - rho * rho) * normal(random));
}

/** A neighbour that comes for 40 samples on average, a tenth of the time, and slows by an exponential variate; between two rounds of a case eleven others run. */
function neighbour(random) {
  const arrive = () => 0.3 * exponential(random);
  let slow = random.below(10) === 0 ? arrive() : 0;
  return (samples) => {
    if (slow > 0 && random.uniform() < 1 - Math.exp(-samples / 40)) slow = 0;
    else if (slow === 0 && random.uniform() < 1 - Math.exp(-samples / 360)) slow = arrive();
    return slow;
  };
}

/** `(rounds, samples, random) → { level(round), sample() }`, logarithms; `level` begins a round. */
const MODELS = {
  independent: (_rounds, _samples, random) => ({ level: () => 0, sample: () => 0.1 * normal(random) }),
  late: (_rounds, _samples, random) => ({ level: () => 0, sample: () => 0.05 * normal(random) + (random.below(30) === 0 ? 0.3 * exponential(random) : 0) }),
  levels: (_rounds, _samples, random) => ({ level: () => 0.03 * normal(random), sample: () => 0.03 * normal(random) }),
  modes: (_rounds, _samples, random) => ({ level: () => 0.01 * normal(random) + (random.uniform() < 0.3 ? 0.1 : 0), sample: () => 0.02 * normal(random) }),
  outliers: (_rounds, _samples, random) => ({ level: () => 0.05 * LEVELS.outliers(random), sample: () => 0.03 * normal(random) }),
  within(_rounds, _samples, random) {
    let next;
    const level = () => {
      next = follows(0.9, random);
      return 0.01 * normal(random);
    };
    return { level, sample: () => 0.05 * next() };
  },
  between(_rounds, _samples, random) {
    const next = follows(0.5, random);
    return { level: () => 0.03 * next(), sample: () => 0.03 * normal(random) };
  },
  bursts(_rounds, samples, random) {
    const slowed = neighbour(random);
    const level = () => {
      for (let other = 0; other < 11; other++) slowed(samples);
      return 0.01 * normal(random);
    };
    return { level, sample: () => slowed(1) + 0.03 * normal(random) };
  },
  drift: (rounds, _samples, random) => ({ level: (round) => (0.1 * (round + 0.5)) / rounds + 0.015 * normal(random), sample: () => 0.03 * normal(random) }),
};

export const NOISES = Object.keys(MODELS);

/** The rounds of one run. */
export function drawRun(noise, rounds, samples, random) {
  const { level, sample } = MODELS[noise](rounds, samples, random);
  return Array.from({ length: rounds }, (_, round) => {
    const centre = level(round);
    return Array.from({ length: samples }, () => Math.exp(centre + sample()));
  });
}
