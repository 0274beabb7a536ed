/** What the webgpu backend reads from a build's options. */
import { type BuildOptions, TUNE_LEVELS } from '../../engine/engine.ts';
import { REQUESTS_IN_FLIGHT } from '../../engine/plan.ts';
import { PREPROCESS_OPTION } from '../pixels.ts';
import { type OptionSpecs, type OptionValues, readOptions } from '../options.ts';

export const WEBGPU_OPTIONS = {
  fallback: {
    type: 'choice',
    default: 'none',
    choices: ['none', 'onnxruntime'],
    description: 'Where nodes without a kernel run: nowhere (the build says which), or in onnxruntime on the processor, with copies between.',
  },
  boundsChecks: {
    type: 'boolean',
    default: false,
    description: "Keep the driver's bounds checks and zeroing of workgroup memory; kernels check their own bounds and are faster without.",
  },
  tune: {
    type: 'choice',
    default: 'none',
    choices: TUNE_LEVELS,
    description: 'Choose kernels by timing them on the device: the most promising few per problem (fast), or all that are worth it (full).',
  },
  f32Products: {
    type: 'choice',
    default: 'exact',
    choices: ['exact', 'split'],
    description: 'fp32 builds on devices with matrix units: multiply in f32, or as sums of products of halves (about 21 bits; factors beyond ±65,504 saturate).',
  },
  fp16Accumulation: {
    type: 'boolean',
    default: false,
    description: "Sum products of halves in halves where the device's matrices do (faster, and off by more in deep sums; beyond ±65,504 a sum is infinite), not in f32.",
  },
  streams: {
    type: 'number',
    default: REQUESTS_IN_FLIGHT,
    min: 1,
    max: 16,
    description: 'Requests that a session keeps under way at once, each with memory of its own for what goes in and out.',
  },
  preprocess: PREPROCESS_OPTION,
  portable: {
    type: 'boolean',
    default: false,
    description: "Build for WebGPU's guaranteed limits, so that the engine runs on any adapter and in browsers.",
  },
} as const satisfies OptionSpecs;

export function webgpuOptions(options: BuildOptions): OptionValues<typeof WEBGPU_OPTIONS> {
  return readOptions(WEBGPU_OPTIONS, options);
}

/** Whether the device is opened without the driver's checks. */
export function isUnchecked(options: BuildOptions): boolean {
  return !webgpuOptions(options).boundsChecks;
}
