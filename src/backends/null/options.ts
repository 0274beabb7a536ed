/** The null backend's options: what the fake device is like, and what goes wrong on it. */
import type { OptionSpecs, OptionValues } from '../options.ts';

export const NULL_OPTIONS = {
  latencyNs: { type: 'number', default: 1_000_000, min: 0, description: 'time of one execution, apart from its items' },
  latencyPerItemNs: { type: 'number', default: 0, min: 0, description: 'further time for each item of the batch' },
  jitter: { type: 'number', default: 0, min: 0, max: 10, description: 'spread: standard deviation of the logarithm of the time' },
  seed: { type: 'number', default: 1, min: 0, description: 'seed of the jitter' },
  slowFirst: { type: 'number', default: 0, min: 0, description: 'number of first executions that take four times as long' },
  drift: { type: 'number', default: 0, min: -0.5, max: 1, description: 'relative change of the time from one execution to the next' },
  clock: { type: 'choice', default: 'fake', choices: ['fake', 'wall'], description: 'whether time only seems to pass' },
  maxInFlight: { type: 'number', default: 1, min: 1, max: 1024, description: 'requests that may be under way at once' },
  memoryBytes: { type: 'number', default: 0, min: 0, max: 2 ** 32, description: 'memory that loading takes and keeps' },
  errorScale: { type: 'number', default: 0, min: 0, description: 'relative error of floating-point outputs, beyond the precision’s' },
  fault: {
    type: 'choice',
    default: 'none',
    choices: ['none', 'error', 'crash', 'hang', 'out-of-memory'],
    description: 'what goes wrong',
  },
  faultAt: { type: 'choice', default: 'run', choices: ['build', 'load', 'run'], description: 'when it goes wrong' },
  faultAfter: { type: 'number', default: 0, min: 0, description: 'executions that end well before the fault' },
} as const satisfies OptionSpecs;

export type NullOptions = OptionValues<typeof NULL_OPTIONS>;
export type FaultStage = NullOptions['faultAt'];
