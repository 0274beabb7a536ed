/**
 * The calibration cache: ranges of a network's activations, kept as JSON between builds.
 *
 * It is bound to the model, the passes and the options that decide which tensors there are, and to the dataset that they were
 * seen on. It does not depend on the batch. Prior art: the calibration cache of TensorRT's IInt8Calibrator.
 */
import { z } from 'zod';
import { TsrtError } from '../errors.ts';
import { SCHEMES } from './params.ts';

const finite = z.number();
const range = z.strictObject({ low: finite, high: finite }).refine(({ low, high }) => low <= high, { message: 'low is above high' });
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in lower-case hexadecimal');
const share = z.number().min(0).max(1);

const tensor = z.strictObject({
  /** What the tensor's grid covers. */
  range,
  /** Smallest and largest value seen. */
  seen: range,
  /** Where 99.9 % of the values lie, the rest split between the tails. */
  bulk: range,
  /** Values outside `range`. */
  clippedShare: share,
  /** Mean of each channel, of tensors that products read. */
  channelMeans: z.array(finite).optional(),
  /**
   * Of a value that depthwise convolutions alone read, and whose error there a grid by channel lowers on samples that did not choose it: what each
   * channel is multiplied by before the grid, and what the grid covers then.
   */
  channels: z.strictObject({ factors: z.array(finite.positive()), range }).optional(),
});

const calibration = z.strictObject({
  kind: z.literal('tsrt-bench calibration'),
  formatVersion: z.literal(1),
  tool: z.string(),
  model: z.strictObject({ name: z.string(), sha256 }),
  graph: z.strictObject({ fusion: z.enum(['on', 'off']), disabledPasses: z.array(z.string()) }),
  dataset: z.strictObject({ description: z.string(), sha256: sha256.optional(), samples: z.int().positive() }),
  /** One of the tool's own, or a plugin's calibrator. */
  method: z.string().min(1),
  scheme: z.enum(SCHEMES),
  percentile: z.number().gt(0).max(100),
  /** What a build makes of the ranges. */
  quantization: z.strictObject({
    /** Take what rounding the weights does to the mean of each channel off the bias. */
    biasCorrection: z.boolean(),
    /** Cross-layer equalization before anything else; the ranges are of the equalized graph. */
    equalization: z.boolean().default(false),
    firstLayer: z.enum(['int8', 'keep']),
    lastLayer: z.enum(['int8', 'keep']),
    /** Nodes, by name in the graph or in the model, that precision `mixed` keeps in fp32. */
    keep: z.array(z.string()),
  }),
  /** Values that no grid needs and that reached beyond ±65504: builds in halves keep them, and those of `tensors` that did, in f32. */
  beyondHalf: z.array(z.string()).default([]),
  /** By the name of the value in the optimized graph. */
  tensors: z.record(z.string(), tensor),
});

export type Calibration = z.infer<typeof calibration>;
export type QuantizationChoices = Calibration['quantization'];
export type TensorCalibration = Calibration['tensors'][string];

/** The cache as text: one tensor a line, in the graph's order, so that two of them can be compared by eye and by diff. */
export function formatCalibration({ tensors, ...rest }: Calibration): string {
  const head = JSON.stringify(rest, null, 2).slice(0, -2);
  const rows = Object.entries(tensors).map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  return `${head},\n  "tensors": {\n${rows.join(',\n')}\n  }\n}\n`;
}

/** Reads a cache. Throws TsrtError CALIBRATION_INVALID with everything wrong. */
export function parseCalibration(text: string, place: string): Calibration {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (cause) {
    throw invalid('the calibration is not JSON', place, [(cause as Error).message], cause);
  }
  const parsed = calibration.safeParse(data);
  if (parsed.success) return parsed.data;
  const details = parsed.error.issues.slice(0, 10).map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`);
  throw invalid('the file is not a calibration of this version', place, details);
}

function invalid(message: string, place: string, details: readonly string[], cause?: unknown): TsrtError {
  return new TsrtError('CALIBRATION_INVALID', message, { place, details, fix: 'write it again with tsrt-bench calibrate', cause });
}

/** What an engine's header says of the calibration that it was built with. */
export interface CalibrationStamp {
  /** SHA-256 of the cache's text. */
  readonly sha256: string;
  readonly method: string;
  /** What it saw. */
  readonly dataset: string;
}

/** What a calibration must have been made for. */
export interface CalibrationUse {
  readonly model: { readonly name: string; readonly sha256: string };
  readonly fusion: 'on' | 'off';
  readonly disabledPasses: readonly string[];
}

/** Throws TsrtError CALIBRATION_INVALID for one of another model or other passes. */
export function checkCalibration(found: Calibration, use: CalibrationUse): void {
  const wrong: string[] = [];
  if (found.model.sha256 !== use.model.sha256) wrong.push(`the calibration is of ${found.model.name} (sha256 ${found.model.sha256.slice(0, 16)}…), not of ${use.model.name}`);
  if (found.graph.fusion !== use.fusion) wrong.push(`it was made with fusion ${found.graph.fusion}, not ${use.fusion}`);
  const passes = (names: readonly string[]) => [...names].sort().join(', ') || 'none';
  if (passes(found.graph.disabledPasses) !== passes(use.disabledPasses)) {
    wrong.push(`it was made without the passes ${passes(found.graph.disabledPasses)}; here ${passes(use.disabledPasses)}`);
  }
  if (wrong.length > 0) throw invalid('the calibration does not fit the build', 'calibration', wrong);
}
