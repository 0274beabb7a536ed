/**
 * The suite file: what a benchmark is, as data (rebar's rule). Strict: an unknown key is a mistake, not a comment.
 *
 * Only shapes and defaults stand here; validate.ts reports the mistakes, load.ts finds the file, expand.ts makes the cases.
 */
import { z } from 'zod';
import { FUSIONS, PRECISIONS } from '../engine/engine.ts';
import { DTYPES, type DType } from '../ir/tensor.ts';
import { PASS_NAMES } from '../passes/names.ts';
import { DEFAULT_PERCENTILE } from '../quantize/calibrators.ts';
import { SCHEMES } from '../quantize/params.ts';
import type { ScenarioName } from '../results/record.ts';

const positive = z.number().positive();
const count = z.int().positive();
const text = z.string().min(1);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in lower-case hexadecimal');

/** A list that may be written as a single value. */
function oneOrMore<T extends z.ZodType>(item: T) {
  return z.preprocess((value) => (value === undefined || Array.isArray(value) ? value : [value]), z.array(item).min(1));
}

/** A file on the network, pinned: nothing else than these bytes is ever used. */
const download = z.strictObject({
  /** Mirrors, tried in order. */
  urls: oneOrMore(z.url({ protocol: /^https?$/ })),
  sha256,
  bytes: count,
});

export const BUILDER_NAMES = ['resnet50', 'mobilenetv2', 'bert-base', 'vit-b16', 'smoke', 'rotary-attention', 'deform-network', 'snake-vocoder'] as const;
export type BuilderName = (typeof BUILDER_NAMES)[number];

const model = z
  .strictObject({
    /** The model's name in records and tables. */
    name: text,
    /** An ONNX file, relative to the suite. */
    file: text.optional(),
    download: download.optional(),
    /** Writes the architecture with seeded weights; stands in where the real file can't be had. */
    builder: z
      .strictObject({
        name: z.enum(BUILDER_NAMES),
        seed: z.int().nonnegative().default(1),
        /** Classes of a classifier; ignored by the others. Default: the architecture's own. */
        classes: count.optional(),
      })
      .optional(),
  })
  .refine((value) => value.file !== undefined || value.download !== undefined || value.builder !== undefined, {
    message: 'needs at least one of file, download, builder',
  });

export const RESIZE_KERNELS = ['nearest', 'linear', 'cubic', 'lanczos3'] as const;

/**
 * From a photograph to a tensor: decode to 8-bit sRGB, scale the short side, cut the centre, map 0–255 to `range`, then
 * `(x − mean) / std` per channel.
 */
const preprocess = z
  .strictObject({
    resize: z.strictObject({ shortSide: count, kernel: z.enum(RESIZE_KERNELS).default('linear') }).optional(),
    /** Width and height of the centre crop; must be the model's input size. */
    crop: z.strictObject({ width: count, height: count }),
    color: z.enum(['rgb', 'bgr']).default('rgb'),
    /** What pixel values 0 and 255 become: [0, 1], [-1, 1], [0, 255]. */
    range: z.tuple([z.number(), z.number()]).default([0, 1]),
    mean: z.tuple([z.number(), z.number(), z.number()]).default([0, 0, 0]),
    std: z.tuple([positive, positive, positive]).default([1, 1, 1]),
    layout: z.enum(['NCHW', 'NHWC']).default('NCHW'),
  })
  .refine((value) => value.resize === undefined || Math.max(value.crop.width, value.crop.height) <= value.resize.shortSide, {
    message: 'the crop is larger than the short side after resizing',
    path: ['crop'],
  });

const dtype = z.enum(DTYPES as [DType, ...DType[]]);
/** Absent name: the model's input at the same position. Absent dtype: the model's. */
const inputBase = { name: text.optional(), dtype: dtype.optional() };

const lowBelowHigh = (range: { readonly low: number; readonly high: number }) => range.low < range.high;
const lowBelowHighMistake = { message: 'low must be less than high', path: ['high'] };

const input = z.discriminatedUnion('kind', [
  /** A photograph from the dataset, or a seeded smooth random picture where there is none. */
  z.strictObject({ kind: z.literal('image'), ...inputBase, preprocess }),
  /** Seeded numbers: `uniform` in [low, high), `normal` with mean and std, `integers` in [low, high), `constant`. */
  z.strictObject({
    kind: z.literal('synthetic'),
    ...inputBase,
    values: z.discriminatedUnion('distribution', [
      z
        .strictObject({ distribution: z.literal('uniform'), low: z.number().default(0), high: z.number().default(1) })
        .refine(lowBelowHigh, lowBelowHighMistake),
      z.strictObject({ distribution: z.literal('normal'), mean: z.number().default(0), std: positive.default(1) }),
      z.strictObject({ distribution: z.literal('integers'), low: z.int().default(0), high: z.int() }).refine(lowBelowHigh, lowBelowHighMistake),
      z.strictObject({ distribution: z.literal('constant'), value: z.number() }),
    ]),
  }),
]);

const dataset = z.strictObject({
  /** A dataset that a plugin gives, by its name; absent: the harness reads the folder itself. */
  source: text.optional(),
  /** A folder of images, or arrays (.npz, .npy, a folder of .npy), relative to the suite; `--dataset` overrides it. Absent: synthetic inputs. */
  path: text.optional(),
  /** Labels file inside the folder, where it is not labels.txt, labels.csv or labels.json; of arrays, the name of one that is not `labels`. */
  labels: text.optional(),
  /** Added to each label: 1 where the model's class 0 is "background". */
  labelOffset: z.int().nonnegative().default(0),
  /** At most so many images, spread evenly over the folder. */
  limit: count.optional(),
  /** Leave out images that can't be decoded, and say how many, instead of ending with an error. */
  skipBroken: z.boolean().default(false),
});

const outputRef = z.union([text, z.int().nonnegative()]).default(0);

const task = z.discriminatedUnion('kind', [
  /** Output [N, classes] of scores. */
  z.strictObject({ kind: z.literal('classification'), output: outputRef }),
  /** Output [N, …] compared by direction. */
  z.strictObject({ kind: z.literal('embedding'), output: outputRef }),
  /** Every output, compared number by number. */
  z.strictObject({ kind: z.literal('raw') }),
]);

/** Where int8 ranges come from, and what a build makes of them. Only int8 and mixed variants read it. */
const quantization = z.strictObject({
  /** A cache that `tsrt-bench calibrate` wrote, relative to the suite. Absent: calibrated in each run. */
  calibration: text.optional(),
  /** Samples to calibrate on where there is no cache: every so-many-th picture, which accuracy then leaves out. */
  samples: count.default(64),
  /** Least squared error: on ResNet-50 and MobileNetV2 the closest to fp32 of the four. */
  /** One of the tool's own (mse, entropy, minmax, percentile), or a calibrator that a plugin gives. */
  method: text.default('mse'),
  scheme: z.enum(SCHEMES).default('affine'),
  /** Share of values inside the range, percent, for the method `percentile`. */
  percentile: z.number().gt(0).max(100).default(DEFAULT_PERCENTILE),
  biasCorrection: z.boolean().default(true),
  /** Channels between two convolutions get alike ranges first, where nothing but ReLU or pools lies between. */
  equalization: z.boolean().default(false),
  firstLayer: z.enum(['int8', 'keep']).default('int8'),
  lastLayer: z.enum(['int8', 'keep']).default('int8'),
});

const optionValue = z.union([z.string(), z.number(), z.boolean()]);

/** The cross product of its lists. */
const axes = z.strictObject({
  backend: oneOrMore(text),
  precision: oneOrMore(z.enum(PRECISIONS)).default(['fp32']),
  fusion: oneOrMore(z.enum(FUSIONS)).default(['on']),
  /** Each option with the values to try; `threads: all` is the machine's number of cores. */
  backendOptions: z.record(text, oneOrMore(optionValue)).default({}),
  disabledPasses: z.array(z.enum(PASS_NAMES)).default([]),
  workspaceBytes: count.optional(),
});

/** Some of a variant's fields; matches every variant that agrees on them. */
const variantMatch = z.strictObject({
  backend: text.optional(),
  precision: z.enum(PRECISIONS).optional(),
  fusion: z.enum(FUSIONS).optional(),
  batch: count.optional(),
  backendOptions: z.record(text, optionValue).optional(),
});

const scenario = z
  .strictObject({
    name: z.enum(['single-stream', 'multi-stream', 'offline', 'server'] satisfies readonly ScenarioName[]),
    streams: count.default(1),
    targetQps: positive.optional(),
    /** Requests of one item, collected into the engine's batch; none waits longer for others. */
    maxQueueDelayMs: z.number().min(0).max(60_000).optional(),
    /** Whether upload and download are inside the timed part. */
    transfers: z.boolean().default(true),
    /** The batches that it is for; undefined: all. */
    batches: z.array(count).min(1).optional(),
  })
  .refine((value) => (value.name === 'server') === (value.targetQps !== undefined), {
    message: "targetQps goes with the 'server' scenario, and only with it",
    path: ['targetQps'],
  })
  .refine(({ name, maxQueueDelayMs }) => maxQueueDelayMs === undefined || name === 'server', {
    message: "maxQueueDelayMs goes with the 'server' scenario: requests are collected as they come",
    path: ['maxQueueDelayMs'],
  })
  .refine(({ transfers, maxQueueDelayMs }) => maxQueueDelayMs === undefined || transfers, {
    message: 'requests that are collected are brought to the device together: leave out transfers: false, or maxQueueDelayMs',
    path: ['transfers'],
  })
  .refine(({ name, streams }) => name !== 'single-stream' || streams === 1, {
    message: "single-stream has one request under way: several go with 'multi-stream'",
    path: ['streams'],
  });

const measure = z.strictObject({
  /** Rounds over all cases; each case is timed once per round. */
  rounds: count.default(5),
  /** Timed part of one case in one round. */
  timeMs: count.default(1000),
  /** Builds of each engine, so that build times can be compared; fewer, at least one, where they take longer than 3 s together. */
  builds: count.default(3),
  /** A fresh worker process for every case and round, or one process per case that is kept for all its rounds. */
  isolation: z.enum(['round', 'case']).default('round'),
  /** A worker that says nothing for so long counts as hung. */
  timeoutMs: count.default(120_000),
  /** The whole run stops starting rounds after so long; undefined: no bound. */
  budgetMs: count.optional(),
});

const accuracy = z.strictObject({
  /** Synthetic samples to compare on where there is no dataset. */
  samples: count.default(32),
  /** Points that top-1 may fall below the fp32 reference's. */
  maxTop1DropPoints: z.number().nonnegative().optional(),
  minSnrDb: z.number().optional(),
  minCosine: z.number().min(-1).max(1).optional(),
  minAgreementPercent: z.number().min(0).max(100).optional(),
});

export const GATE_METRICS = [
  'latency-p50',
  'latency-p95',
  'latency-p99',
  'throughput',
  'device-time',
  'build-time',
  'load-time',
  'first-inference',
  'memory-peak',
  'engine-bytes',
  'top1',
  'agreement',
  'snr',
] as const;
export type GateMetric = (typeof GATE_METRICS)[number];

const gate = z.strictObject({
  /** Confidence of the intervals that verdicts rest on. */
  confidence: z.number().gt(0.5).lt(1).default(0.95),
  /**
   * Which metrics decide, and the change in percent (points for top1 and agreement, dB for snr) that is still noise. Build time,
   * load time and first inference are watched where they are not named: a regression fails, what can't be told decides nothing.
   */
  thresholds: z
    .partialRecord(z.enum(GATE_METRICS), z.number().nonnegative())
    .default({ 'latency-p50': 5, throughput: 5, 'memory-peak': 5, top1: 0.5, agreement: 0.5 }),
});

export const suiteSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]*$/, 'expected lower-case letters, digits, dots, dashes'),
  description: text,
  model,
  /** Every input of the model; empty: seeded numbers by the inputs' types. */
  inputs: z.array(input).default([]),
  /** Sizes of symbolic dimensions other than the batch, by the model's names. */
  dims: z.record(text, count).default({}),
  /** Shapes of inputs by name; wins over `dims` and the batch. */
  inputShapes: z.record(text, z.array(count)).default({}),
  dataset: dataset.prefault({}),
  task,
  variants: z.array(axes).min(1),
  /** Variants added to the cross products. */
  include: z.array(axes).default([]),
  /** Variants taken away from what `variants` gives, not from `include`. */
  exclude: z.array(variantMatch).default([]),
  batches: oneOrMore(count).default([1]),
  /** Device of the backends that have one of this name: its slug, a part of its name, its index; default: each backend's first. */
  device: text.optional(),
  scenarios: z.array(scenario).min(1).prefault([{ name: 'single-stream' }]),
  measure: measure.prefault({}),
  /** Which variant speed-ups are stated against. */
  baselineVariant: variantMatch.omit({ batch: true }).optional(),
  accuracy: accuracy.prefault({}),
  quantization: quantization.prefault({}),
  gate: gate.prefault({}),
})
  .refine((value) => value.inputs.filter((input) => input.kind === 'image').length <= 1, {
    message: 'at most one input can be an image',
    path: ['inputs'],
  });

/** What a suite file may say. */
export type SuiteSource = z.input<typeof suiteSchema>;

/** What a suite file says, with every default filled in. */
export type SuiteDefinition = z.infer<typeof suiteSchema>;
export type SuiteInput = SuiteDefinition['inputs'][number];
export type ImageInput = Extract<SuiteInput, { kind: 'image' }>;
export type SyntheticInput = Extract<SuiteInput, { kind: 'synthetic' }>;
export type Preprocess = ImageInput['preprocess'];
export type VariantAxes = SuiteDefinition['variants'][number];
export type VariantMatch = SuiteDefinition['exclude'][number];
export type Task = SuiteDefinition['task'];
export type AccuracyBudget = SuiteDefinition['accuracy'];
export type QuantizationSettings = SuiteDefinition['quantization'];
export type GatePolicy = SuiteDefinition['gate'];
export type ModelSource = SuiteDefinition['model'];
export type Download = NonNullable<ModelSource['download']>;

/** A suite that was read: its definition and where it came from. */
export interface Suite extends SuiteDefinition {
  readonly file: string;
  /** Relative paths inside the suite start here. */
  readonly folder: string;
  /** SHA-256 of the definition in canonical JSON: comments and key order do not count. */
  readonly sha256: string;
}
