/**
 * Feeds the engine reader damaged and hostile files: `node scripts/fuzz-engine.mjs [ROUNDS] [SEED]`, after `npm run build`.
 *
 * Two kinds. Damage (flipped bits, cuts, splices) must be refused, whatever it hits. Forgery (a changed header under a
 * right hash) may give an engine or a refusal. Anything but a TsrtError, or longer than a second, is a failure.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { deserializeEngine, serializeEngine } from '../dist/src/engine/file.js';
import { TsrtError } from '../dist/src/errors.js';
import { createRandom } from '../dist/src/stats/random.js';
import { TOOL_VERSION } from '../dist/src/version.js';

const { positionals } = parseArgs({ allowPositionals: true });
const [rounds, seed] = [Number(positionals[0] ?? 10_000), Number(positionals[1] ?? 1)];
const random = createRandom(seed);

const part = (length) => Uint8Array.from({ length }, () => random.below(256));
const file = await serializeEngine({
  header: {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'webgpu',
    model: { name: 'fuzzed', sha256: '00'.repeat(32) },
    options: {
      backend: 'webgpu', precision: 'fp32', fusion: 'on', batch: 1, dims: { n: 3 }, inputShapes: { x: [1, 3] },
      disabledPasses: [], workspaceBytes: 1024, backendOptions: { tune: true },
    },
    inputs: [{ name: 'x', dtype: 'float32', dims: [1, 3] }],
    outputs: [{ name: 'y', dtype: 'int64', dims: [1], dynamic: true }],
    memory: { weightBytes: 1, activationBytes: 2, workspaceBytes: 3, stagingBytes: 4 },
    passes: [{ pass: 'p', nodesBefore: 2, nodesAfter: 1, rewrites: { r: 1 } }],
    layers: [{ name: 'l', kind: 'Conv', precision: 'float32', origins: ['a'], flops: 1, bytes: 2, tactic: 't' }],
    requires: { adapter: 'a' },
    notices: ['n'],
    backendData: { steps: [[1, 2], { deep: [null, true] }] },
  },
  parts: new Map([['weights', part(700)], ['empty', part(0)], ['plan', part(33)]]),
});

function damage() {
  let bytes = file.slice(0, random.below(4) === 0 ? random.below(file.length) : file.length);
  if (random.below(8) === 0) bytes = Uint8Array.from([...bytes, ...part(1 + random.below(600))]);
  for (let edits = random.below(6); edits > 0 && bytes.length > 0; edits--) {
    const at = random.below(bytes.length);
    if (random.below(2) === 0) bytes[at] ^= 1 << random.below(8);
    else bytes.copyWithin(at, random.below(bytes.length), random.below(bytes.length) + 1);
  }
  return bytes;
}

const TOKENS = ['-1', '1e308', '9007199254740993', 'null', 'true', '"x"', '[]', '{}', '[[[[', '0.5', '"__proto__"', '', ',', '"\\ud800"'];

function forgery() {
  const length = new DataView(file.buffer).getUint32(12, true);
  let json = new TextDecoder().decode(file.subarray(48, 48 + length));
  for (let edits = 1 + random.below(3); edits > 0; edits--) {
    const values = [...json.matchAll(/(?<=[:,[])(?:"[^"]*"|-?\d+|true|null)/g)];
    const target = values[random.below(values.length || 1)];
    if (!target) break;
    json = json.slice(0, target.index) + TOKENS[random.below(TOKENS.length)] + json.slice(target.index + target[0].length);
  }
  const header = new TextEncoder().encode(json);
  const bytes = Buffer.concat([file.subarray(0, 48), header, file.subarray(48 + length)]);
  bytes.writeUInt32LE(header.length, 12);
  createHash('sha256').update(header).digest().copy(bytes, 16);
  return new Uint8Array(bytes);
}

const counts = { damaged: 0, forged: 0, refused: 0, accepted: 0 };
for (let round = 0; round < rounds; round++) {
  const forged = random.below(2) === 0;
  const bytes = forged ? forgery() : damage();
  const intact = Buffer.compare(bytes, file) === 0;
  const start = performance.now();
  const problem = await deserializeEngine(bytes).then(
    () => (forged || intact ? undefined : 'a damaged file was accepted'),
    (error) => (error instanceof TsrtError && !intact ? 'refused' : `it raised ${error?.stack ?? error}`),
  );
  counts[forged ? 'forged' : 'damaged']++;
  counts[problem === 'refused' ? 'refused' : 'accepted']++;
  const elapsedMs = performance.now() - start;
  if ((problem !== undefined && problem !== 'refused') || elapsedMs > 1000) {
    process.stderr.write(`round ${round} of seed ${seed}: ${problem ?? `it took ${elapsedMs} ms`}\n`);
    process.exitCode = 1;
    break;
  }
}
process.stdout.write(`${JSON.stringify({ rounds, seed, ...counts })}\n`);
