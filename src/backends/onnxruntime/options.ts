/** The onnxruntime backend's options, and the session options that they and the build options make. */
import type { BuildOptions } from '../../engine/engine.ts';
import { PREPROCESS_OPTION } from '../pixels.ts';
import type { OptionSpecs, OptionValues } from '../options.ts';
import { readOptions } from '../options.ts';
import { SILENT, type SessionOptions } from './library.ts';
import { sessionThreads } from './threads.ts';

export const ORT_OPTIONS = {
  threads: { type: 'number', default: 0, min: 0, max: 1024, description: 'threads inside one operator; 0: one per physical core, or per core that a container grants where that is fewer' },
  provider: {
    type: 'choice',
    default: 'cpu',
    choices: ['cpu', 'webgpu', 'cuda', 'tensorrt'],
    description: 'execution provider; what it can not run, onnxruntime gives to the processor',
  },
  preprocess: PREPROCESS_OPTION,
  executionMode: {
    type: 'choice',
    default: 'sequential',
    choices: ['sequential', 'parallel'],
    description: 'whether independent operators run at once',
  },
  memoryArena: { type: 'boolean', default: true, description: 'keep freed memory for the next run' },
  memoryPattern: { type: 'boolean', default: true, description: 'plan activations into one block after the first run' },
  spinning: { type: 'boolean', default: true, description: 'let idle threads spin; faster, and it burns their cores' },
} as const satisfies OptionSpecs;

export type OrtOptions = OptionValues<typeof ORT_OPTIONS>;
export type Provider = OrtOptions['provider'];

/** Throws TsrtError USAGE for options that do not exist. */
export function ortOptions(options: BuildOptions): OrtOptions {
  return readOptions(ORT_OPTIONS, options);
}

/**
 * onnxruntime would quantize, by rules of its own, what lies between int8 nodes and was kept in float on purpose; and would make a padding with
 * zeros one of a max pool, whose own padding is no number.
 */
const WRITTEN_OTHERWISE = 'WeightBiasQuantization;Pad_Fusion';

export const AS_WRITTEN = { extra: { optimization: { disable_specified_optimizers: WRITTEN_OTHERWISE } } } as const;

/** A product of integers and the float bias after it would become one float product, and reshapes around it get zero points of a wrong type. */
const AS_WRITTEN_INT8 = { disable_specified_optimizers: `${WRITTEN_OTHERWISE};MatMulAddFusion` } as const;

/** For looking at a model while it is built: on the processor, whatever it will run on, so that building needs no device. */
export function buildSessionOptions(build: BuildOptions): SessionOptions {
  return { ...sessionOptions(build), executionProviders: ['cpu'], graphOptimizationLevel: 'disabled' };
}

/** Fusion off also keeps onnxruntime's own rewrites off, so that what fusion brings can be seen. */
export function sessionOptions(build: BuildOptions): SessionOptions {
  const options = ortOptions(build);
  return {
    ...SILENT,
    executionProviders: [options.provider],
    graphOptimizationLevel: build.fusion === 'on' ? 'all' : 'disabled',
    intraOpNumThreads: sessionThreads(options.threads),
    executionMode: options.executionMode,
    enableCpuMemArena: options.memoryArena,
    enableMemPattern: options.memoryPattern,
    extra: {
      optimization: build.precision === 'int8' || build.precision === 'mixed' ? AS_WRITTEN_INT8 : AS_WRITTEN.extra.optimization,
      session: { intra_op: { allow_spinning: options.spinning ? '1' : '0' } },
    },
  };
}
