/**
 * How far a variant's answers are from the fp32 reference's, and from the truth where there are labels. Everything is
 * accumulated sample by sample; nothing is kept.
 *
 * Signal-to-noise ratio: 10·log10(Σ reference² / Σ (reference − variant)²) over all numbers of all samples. Top-k counts a
 * sample as right where fewer than k classes score above its label, ties going to the lower index.
 */
import type { TensorMap } from '../backends/backend.ts';
import type { Binding, EngineHeader, Precision } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { sameDims, type Tensor, toNumbers, typedView } from '../ir/tensor.ts';
import type { AccuracyReading } from '../results/record.ts';
import type { AccuracyBudget, Task } from './schema.ts';

/** One batch of answers; `count` samples of it are real, the rest is padding. */
export interface AnswerBatch {
  readonly variant: TensorMap;
  readonly reference: TensorMap;
  readonly labels: readonly (number | undefined)[];
  readonly count: number;
  /** Size of the batch dimension. */
  readonly batch: number;
}

export interface AccuracyResult {
  readonly reading: AccuracyReading;
  /** Top-1 of the reference on the same samples, percent. */
  readonly referenceTop1Percent: number | undefined;
  /** Samples with a NaN or infinity where the reference has a number. */
  readonly nonFiniteSamples: number;
}

export interface AccuracyAccumulator {
  add(batch: AnswerBatch): void;
  result(): AccuracyResult;
}

/** Decibels given where the noise is infinite: answers that are no numbers. */
const WORST_SNR_DB = -1000;

export function accuracyAccumulator(
  task: Task,
  about: { readonly inputs: string; readonly untrained: boolean },
): AccuracyAccumulator {
  const sums = { samples: 0, labelled: 0, top1: 0, top5: 0, referenceTop1: 0, agree: 0, signal: 0, noise: 0, nonFinite: 0 };
  let cosineMin = 1;
  let maxAbsError = 0;

  const addSample = (variant: Numbers, reference: Numbers): boolean => {
    const pair = comparePair(variant, reference);
    sums.signal += pair.signal;
    sums.noise += pair.noise;
    cosineMin = Math.min(cosineMin, pair.cosine);
    maxAbsError = Math.max(maxAbsError, pair.maxAbsError);
    return pair.finite;
  };
  const addClasses = (variant: Numbers, reference: Numbers, label: number | undefined): void => {
    if (argmax(variant) === argmax(reference)) sums.agree++;
    if (label === undefined) return;
    sums.labelled++;
    if (rankOf(variant, label) < 1) sums.top1++;
    if (rankOf(variant, label) < 5) sums.top5++;
    if (rankOf(reference, label) < 1) sums.referenceTop1++;
  };
  const percent = (part: number, whole: number) => (whole === 0 ? undefined : (100 * part) / whole);

  return {
    add(batch) {
      const pairs = comparedOutputs(task, batch).map(([variant, reference]) => [
        samplesOf(variant, batch),
        samplesOf(reference, batch),
      ] as const);
      const samples = Math.min(batch.count, Math.max(0, ...pairs.map(([variant]) => variant.length)));
      for (let index = 0; index < samples; index++) {
        const finite = pairs.map(([variant, reference]) => addSample(variant[index] ?? [], reference[index] ?? []));
        if (finite.includes(false)) sums.nonFinite++;
        const [variant, reference] = pairs[0]!;
        if (task.kind === 'classification') addClasses(variant[index]!, reference[index]!, batch.labels[index]);
        sums.samples++;
      }
    },
    result: () => ({
      reading: {
        samples: sums.samples,
        top1Percent: percent(sums.top1, sums.labelled),
        top5Percent: percent(sums.top5, sums.labelled),
        agreementPercent: task.kind === 'classification' ? percent(sums.agree, sums.samples) : undefined,
        cosineMin,
        maxAbsError,
        snrDb: snr(sums.signal, sums.noise),
        ...about,
      },
      referenceTop1Percent: percent(sums.referenceTop1, sums.labelled),
      nonFiniteSamples: sums.nonFinite,
    }),
  };
}

function snr(signal: number, noise: number): number | undefined {
  if (noise === 0) return undefined;
  return Math.max(WORST_SNR_DB, 10 * Math.log10(signal / noise));
}

type Numbers = ArrayLike<number>;

/** The outputs that the task compares, variant first; the task's own output comes first. */
function comparedOutputs(task: Task, { variant, reference }: AnswerBatch): [Tensor, Tensor][] {
  const names = task.kind === 'raw' ? Object.keys(reference) : [outputName(task.output, Object.keys(reference))];
  return names.map((name) => {
    const [a, b] = [variant[name], reference[name]];
    if (!a || !b) throw new Error(`output '${name}' is missing from the ${a ? 'reference' : 'variant'}`);
    if (!sameDims(a.dims, b.dims)) throw new Error(`output '${name}' is [${a.dims.join(',')}], the reference's [${b.dims.join(',')}]`);
    return [a, b];
  });
}

/**
 * The answers that a variant's can be compared with number by number. What the data select (lengths that they decide, a detector's boxes) has no
 * counterpart there in a lower precision, which moves a score across a threshold and puts all that follows elsewhere: such outputs are left out.
 * Throws TsrtError SUITE_INVALID where the task is about nothing else.
 */
export function comparable(reference: TensorMap, { outputs, options: { precision } }: Pick<EngineHeader, 'outputs' | 'options'>, task: Task): TensorMap {
  const selected = new Set(selectedOutputs(outputs, precision));
  if (selected.size === 0) return reference;
  const names = Object.keys(reference);
  const asked = task.kind === 'raw' ? names : [outputName(task.output, names)];
  if (asked.every((name) => selected.has(name))) {
    const fix = 'make what they are selected from outputs of the model too';
    throw new TsrtError('SUITE_INVALID', `the length of ${asked.map((name) => `'${name}'`).join(', ')} depends on the data, and ${precision} may select other elements: ${fix}`, { fix });
  }
  return task.kind === 'raw' ? Object.fromEntries(Object.entries(reference).filter(([name]) => !selected.has(name))) : reference;
}

/** Outputs that a variant of this precision may select otherwise than fp32 does, by name. */
export function selectedOutputs(outputs: readonly Binding[], precision: Precision): readonly string[] {
  return precision === 'fp32' ? [] : outputs.flatMap(({ name, dynamic }) => (dynamic ? [name] : []));
}

/** A model's output by name or position. Throws SUITE_INVALID with what the model has. */
export function outputName(output: string | number, names: readonly string[]): string {
  const name = typeof output === 'number' ? names[output] : names.find((known) => known === output);
  if (name !== undefined) return name;
  throw new TsrtError('SUITE_INVALID', `the model has no output ${typeof output === 'number' ? `number ${output}` : `'${output}'`}`, {
    details: names.map((known, index) => `${index}: ${known}`),
    fix: `set \`task.output\` to one of ${names.join(', ')}`,
  });
}

/** An output sample by sample; whole where it has no batch dimension. */
function samplesOf(tensor: Tensor, { batch, count }: AnswerBatch): Numbers[] {
  const numbers = asNumbers(tensor);
  if (tensor.dims[0] !== batch) return [numbers];
  const size = numbers.length / batch;
  return Array.from({ length: count }, (_, index) => numbers.subarray(index * size, (index + 1) * size));
}

function asNumbers(tensor: Tensor): Float32Array | Float64Array {
  if (tensor.dtype === 'float32') return typedView(tensor) as Float32Array;
  return Float64Array.from(toNumbers(tensor));
}

function comparePair(variant: Numbers, reference: Numbers) {
  let signal = 0;
  let power = 0;
  let dot = 0;
  let noise = 0;
  let maxAbsError = 0;
  let finite = true;
  for (let i = 0; i < reference.length; i++) {
    const a = variant[i]!;
    const b = reference[i]!;
    // The same infinity, or NaN in both, is agreement and carries no signal.
    if (Object.is(a, b) && !Number.isFinite(a)) continue;
    if (!Number.isFinite(a) || !Number.isFinite(b)) {
      finite = false;
      continue;
    }
    const error = Math.abs(a - b);
    signal += b * b;
    power += a * a;
    dot += a * b;
    noise += error * error;
    if (error > maxAbsError) maxAbsError = error;
  }
  if (!finite) return { signal, noise: Number.POSITIVE_INFINITY, cosine: 0, maxAbsError: Number.MAX_VALUE, finite };
  return { signal, noise, cosine: cosine(dot, power, signal), maxAbsError, finite };
}

function cosine(dot: number, a: number, b: number): number {
  if (a === 0 && b === 0) return 1;
  if (a === 0 || b === 0) return 0;
  return Math.min(1, Math.max(-1, dot / Math.sqrt(a) / Math.sqrt(b)));
}

function argmax(scores: Numbers): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (!(scores[i]! <= scores[best]!)) best = i;
  return best;
}

/** How many classes come before `label`; NaN counts as before. */
function rankOf(scores: Numbers, label: number): number {
  const own = scores[label];
  if (own === undefined || Number.isNaN(own)) return Number.POSITIVE_INFINITY;
  let before = 0;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    if (!(score <= own) || (score === own && i < label)) before++;
  }
  return before;
}

/** What of the suite's accuracy budget a result breaks, as sentences; empty where all holds. */
export function brokenBudget(budget: AccuracyBudget, { reading, referenceTop1Percent, nonFiniteSamples }: AccuracyResult): readonly string[] {
  const broken: string[] = [];
  if (nonFiniteSamples > 0) broken.push(`${nonFiniteSamples} of ${reading.samples} answers hold NaN or infinity`);
  const { maxTop1DropPoints, minSnrDb, minCosine, minAgreementPercent } = budget;
  if (maxTop1DropPoints !== undefined && reading.top1Percent !== undefined && referenceTop1Percent !== undefined) {
    const drop = referenceTop1Percent - reading.top1Percent;
    if (drop > maxTop1DropPoints) broken.push(`top-1 is ${drop.toFixed(2)} points below fp32, more than the ${maxTop1DropPoints} allowed`);
  }
  if (minSnrDb !== undefined && reading.snrDb !== undefined && reading.snrDb < minSnrDb) {
    broken.push(`signal-to-noise ratio is ${reading.snrDb.toFixed(1)} dB, at least ${minSnrDb} is required`);
  }
  if (minCosine !== undefined && reading.cosineMin < minCosine) {
    broken.push(`cosine falls to ${reading.cosineMin.toFixed(6)}, at least ${minCosine} is required`);
  }
  if (minAgreementPercent !== undefined && reading.agreementPercent !== undefined && reading.agreementPercent < minAgreementPercent) {
    broken.push(`top-1 agrees with fp32 in ${reading.agreementPercent.toFixed(1)} %, at least ${minAgreementPercent} is required`);
  }
  return broken;
}
