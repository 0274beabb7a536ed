/**
 * What trtexec writes: times, profile and outputs as JSON, and what its log says. Two generations of `--exportTimes` are in use
 * (samples/common/sampleReporting.cpp): `startInMs … inMs` with `endToEndMs` before TensorRT 8.5, `startH2dMs … h2dMs` after it;
 * both have `computeMs` and `latencyMs`, which is all that is read here.
 */
import { fromNumbers, TsrtError, type Binding, type LayerTime, type TensorMap } from 'tsrt-bench';

/** One inference as trtexec timed it, in milliseconds by CUDA events. */
export interface TracedTime {
  /** Kernels alone. */
  readonly computeMs: number;
  /** Upload, kernels and download. */
  readonly latencyMs: number;
}

function broken(file: string, why: string): TsrtError {
  return new TsrtError('BACKEND_FAILED', `trtexec: ${file} ${why}`, { plugin: 'trtexec', fix: 'check that this trtexec runs by hand, and its version' });
}

/** C++ streams write what JSON lacks: a percentage of nothing is `-nan`, an output that overflowed `inf`. They become text that Number() reads. */
function withNonFinite(text: string): string {
  return text.replaceAll(/"(?:[^"\\]|\\.)*"|(-?)\b(nan|inf)(?:\(\w*\))?/gi, (found, sign: string, word: string | undefined) => (word === undefined ? found : `"${word.toLowerCase() === 'nan' ? 'NaN' : `${sign}Infinity`}"`));
}

function list(text: string, file: string): readonly Record<string, unknown>[] {
  let value: unknown;
  try {
    value = JSON.parse(withNonFinite(text));
  } catch (cause) {
    throw broken(file, `is not JSON (${(cause as Error).message})`);
  }
  if (!Array.isArray(value) || value.some((entry) => typeof entry !== 'object' || entry === null)) throw broken(file, 'is not a list of objects');
  return value as readonly Record<string, unknown>[];
}

/** Reads `--exportTimes`. Throws TsrtError BACKEND_FAILED for anything else, an empty list included. */
export function parseTimes(text: string): readonly TracedTime[] {
  const entries = list(text, 'the exported times').map((entry, index): TracedTime => {
    const [computeMs, latencyMs] = [entry['computeMs'], entry['latencyMs']];
    const sound = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0;
    if (!sound(computeMs) || !sound(latencyMs)) throw broken('the exported times', `have no computeMs and latencyMs in entry ${index}`);
    return { computeMs, latencyMs };
  });
  if (entries.length === 0) throw broken('the exported times', 'are empty');
  return entries;
}

/** Reads `--exportProfile`: `[{count}, {name, timeMs, averageMs, medianMs, percentage}, …]`. Layers run in the order given. */
export function parseProfile(text: string): readonly LayerTime[] {
  const layers = list(text, 'the exported profile').flatMap((entry): LayerTime[] => {
    const [name, averageMs] = [entry['name'], entry['averageMs']];
    if (name === undefined && 'count' in entry) return [];
    if (typeof name !== 'string' || typeof averageMs !== 'number') throw broken('the exported profile', 'has a layer without name or averageMs');
    return [{ layer: name, durationNs: averageMs * 1e6 }];
  });
  if (layers.length === 0) throw broken('the exported profile', 'has no layers');
  return layers;
}

/** Reads `--exportOutput`: `[{name, dimensions: "1x1000", values: […]}, …]`. Values must fit the bindings. */
export function parseOutputs(text: string, bindings: readonly Binding[]): TensorMap {
  const entries = list(text, 'the exported outputs');
  return Object.fromEntries(
    bindings.map(({ name, dtype, dims }) => {
      const entry = entries.find((other) => other['name'] === name);
      if (!entry) throw broken('the exported outputs', `lack '${name}'`);
      const shape = String(entry['dimensions']).split('x').filter(Boolean).map(Number);
      const values = entry['values'];
      const count = dims.reduce((product, dim) => product * dim, 1);
      if (!Array.isArray(values) || values.length !== count) throw broken('the exported outputs', `hold ${Array.isArray(values) ? values.length : 'no'} values of '${name}', not ${count}`);
      if (shape.length > 0 && shape.join() !== dims.join()) throw broken('the exported outputs', `have '${name}' as [${shape.join(',')}], not [${dims.join(',')}]`);
      return [name, fromNumbers(dtype, dims, values.map(Number))];
    }),
  );
}

/** `8.6.1` of `[TensorRT v8601]`, `10.3.0` of `[TensorRT v100300]`: the digits are major, two of minor, two of patch. */
export function parseVersion(output: string): string | undefined {
  const digits = /\[TensorRT v(\d{4,6})\]/.exec(output)?.[1];
  if (digits === undefined) return undefined;
  const number = Number(digits);
  const [major, unit] = number >= 100_000 ? [Math.floor(number / 10_000), 10_000] : [Math.floor(number / 1000), 1000];
  return `${major}.${Math.floor((number % unit) / 100)}.${number % 100}`;
}

/** Device memory that TensorRT holds once the context is there, in bytes; undefined where this version does not log it. */
export function parseDeviceBytes(output: string): number | undefined {
  const lines = [...output.matchAll(/TensorRT-managed allocation in IExecutionContext creation:.*now: CPU \d+, GPU (\d+) \(MiB\)/g)];
  const mebibytes = lines.at(-1)?.[1];
  return mebibytes === undefined ? undefined : Number(mebibytes) * 2 ** 20;
}

/** `NVIDIA H200` of `Selected Device: NVIDIA H200`. */
export function parseDevice(output: string): string | undefined {
  return /Selected Device: (.+?)\s*$/m.exec(output)?.[1];
}

/** Lines that the log marks as errors, without time and level. */
export function errorLines(output: string): string[] {
  return output
    .split('\n')
    .filter((line) => /\[E\]/.test(line))
    .map((line) => line.replace(/^.*?\[E\]\s*/, '').trim())
    .filter(Boolean)
    .slice(0, 10);
}
