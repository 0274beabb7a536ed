import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../src/engine/canonical.ts';
import { deserializeEngine, engineBytes, PART_ALIGNMENT, serializeEngine } from '../../../src/engine/file.ts';
import { TsrtError } from '../../../src/errors.ts';
import { sampleEngine, sampleHeader } from '../../helpers/engine.ts';
import { seededRandom } from '../../helpers/random.ts';

const file = await serializeEngine(sampleEngine());

async function refusal(bytes: Uint8Array | ArrayBuffer): Promise<TsrtError> {
  const error: unknown = await deserializeEngine(bytes).catch((error: unknown) => error);
  if (!(error instanceof TsrtError)) throw new Error(`not refused with a TsrtError: ${String(error)}`);
  return error;
}

function streamOf(bytes: Uint8Array, pieceBytes: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(bytes.subarray(at, (at += pieceBytes)));
      else controller.close();
    },
  });
}

/** A file that a hostile writer made: any envelope, with the right hash over it. */
function forge(envelope: string, rest: Uint8Array = new Uint8Array(0)): Uint8Array {
  const header = new TextEncoder().encode(envelope);
  const bytes = new Uint8Array(48 + header.length + rest.length);
  bytes.set(file.subarray(0, 12));
  new DataView(bytes.buffer).setUint32(12, header.length, true);
  bytes.set(createHash('sha256').update(header).digest(), 16);
  bytes.set(header, 48);
  bytes.set(rest, 48 + header.length);
  return bytes;
}

const emptyHash = createHash('sha256').digest('hex');
const forgeHeader = (header: unknown, parts: unknown = []) => forge(canonicalJson({ engine: header, parts }));

describe('engine file', () => {
  it('gives back the engine that was written', async () => {
    const engine = await deserializeEngine(file);
    expect(engine).toEqual(sampleEngine());
    expect([...engine.parts.keys()]).toEqual(['weights', 'empty', 'one', 'more']);
  });

  it('takes a buffer too, as pages have it, and shared memory, as worker threads have it', async () => {
    expect(await deserializeEngine(file.slice().buffer as ArrayBuffer)).toEqual(sampleEngine());
    const shared = new Uint8Array(new SharedArrayBuffer(file.length));
    shared.set(file);
    expect(await deserializeEngine(shared)).toEqual(sampleEngine());
    expect((await refusal(new ArrayBuffer(3))).code).toBe('ENGINE_INVALID');
  });

  it('takes a stream and a blob, whatever the pieces that they come in', async () => {
    for (const pieceBytes of [1, 7, 300, file.length]) expect(await deserializeEngine(streamOf(file, pieceBytes))).toEqual(sampleEngine());
    expect(await deserializeEngine(new Blob([file.subarray(0, 100) as Uint8Array<ArrayBuffer>, file.subarray(100) as Uint8Array<ArrayBuffer>]))).toEqual(sampleEngine());
  });

  it('refuses a stream as soon as it shows damage, and wants no more of it', async () => {
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(Uint8Array.of(0x89, 0x54, 0, 0)), cancel: () => void (cancelled = true) });
    await expect(deserializeEngine(endless)).rejects.toMatchObject({ code: 'ENGINE_INVALID' });
    expect(cancelled).toBe(true);
    for (const length of [20, 60, file.length - 300, file.length - 1]) await expect(deserializeEngine(streamOf(file.subarray(0, length), 64))).rejects.toMatchObject({ code: 'ENGINE_INVALID' });
    const longer = new Uint8Array(file.length + 1);
    longer.set(file);
    await expect(deserializeEngine(streamOf(longer, 64))).rejects.toMatchObject({ message: expect.stringContaining('after its last part') });
  });

  it('comes in pieces that are the parts themselves, and are the file together', async () => {
    const engine = sampleEngine();
    const pieces: Uint8Array[] = [];
    for await (const piece of engineBytes(engine)) pieces.push(piece);
    expect(Buffer.concat(pieces).equals(file)).toBe(true);
    for (const part of engine.parts.values()) expect(pieces).toContain(part);
  });

  it('is refused before it is hashed where a part would be larger than Node reads', async () => {
    // Pages that nobody writes to take no memory.
    const large = { ...sampleEngine(), parts: new Map([['weights', new Uint8Array(2 ** 31)]]) };
    await expect(serializeEngine(large)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining("part 'weights' takes 2.0 GiB"), fix: expect.stringContaining('fp16') });
  });

  it('hands parts out as views, without copying', async () => {
    const { parts } = await deserializeEngine(file);
    for (const part of parts.values()) expect(part.buffer).toBe(file.buffer);
  });

  it('aligns every part', async () => {
    const { parts } = await deserializeEngine(file);
    for (const part of parts.values()) expect(part.byteOffset % PART_ALIGNMENT).toBe(0);
  });

  it('gives equal bytes for equal engines, whatever the order of keys', async () => {
    const { backendData, ...rest } = sampleHeader();
    const shuffled = { backendData, ...Object.fromEntries(Object.entries(rest).reverse()) } as ReturnType<typeof sampleHeader>;
    expect(await serializeEngine({ header: shuffled, parts: sampleEngine().parts })).toEqual(file);
  });

  it('writes the same bytes again after reading', async () => {
    expect(await serializeEngine(await deserializeEngine(file))).toEqual(file);
  });

  it('survives any header length: offsets settle around every decimal border', async () => {
    for (let length = 0; length < 300; length++) {
      const engine = sampleEngine({ notices: ['x'.repeat(length)] });
      expect(await deserializeEngine(await serializeEngine(engine))).toEqual(engine);
    }
  });

  it('reads a file that lies at an odd offset of its buffer', async () => {
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    expect(await deserializeEngine(shifted.subarray(3))).toEqual(sampleEngine());
  });
});

describe('a damaged engine file', () => {
  it('is refused for one flipped bit in any byte', async () => {
    const bytes = file.slice();
    for (let i = 0; i < bytes.length; i++) {
      const bit = 1 << (i % 8);
      bytes[i]! ^= bit;
      expect(['ENGINE_INVALID', 'ENGINE_INCOMPATIBLE']).toContain((await refusal(bytes)).code);
      bytes[i]! ^= bit;
    }
  });

  it('is refused when cut at any length', async () => {
    for (let length = 0; length < file.length; length++) {
      expect((await refusal(file.subarray(0, length))).code).toBe('ENGINE_INVALID');
    }
  });

  it('is refused when it goes on', async () => {
    for (const extra of [1, 255, 256]) {
      const longer = new Uint8Array(file.length + extra);
      longer.set(file);
      expect((await refusal(longer)).message).toContain('after its last part');
    }
  });

  it('survives 300 seeded mutations with one clear error each', async () => {
    const random = seededRandom(20);
    for (let round = 0; round < 300; round++) {
      const bytes = file.slice(0, random() < 0.3 ? Math.floor(random() * file.length) : file.length);
      const edits = 1 + Math.floor(random() * 8);
      for (let i = 0; i < edits; i++) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
      if (Buffer.compare(bytes, file) === 0) continue;
      expect((await refusal(bytes)).fix).toContain('Build');
    }
  });

  it('names another format version', async () => {
    const bytes = file.slice();
    bytes[8] = 2;
    const error = await refusal(bytes);
    expect(error.code).toBe('ENGINE_INCOMPATIBLE');
    expect(error.details).toEqual(['format version: file 2, tool 1']);
  });
});

describe('a forged engine file with right hashes', () => {
  const part = (overrides: object) => ({ name: 'p', offset: 0, length: 0, sha256: emptyHash, ...overrides });
  const parts = (...entries: readonly object[]) => forgeHeader(sampleHeader(), entries);
  /** Where the writer would put it. */
  const lyingPart = (length: number) => {
    const at = (offset: number) => parts(part({ length, offset }));
    return at(Math.ceil(at(1024).length / PART_ALIGNMENT) * PART_ALIGNMENT);
  };

  it.each<[string, Uint8Array, string]>([
    ['no JSON', forge('{'), 'header is wrong'],
    ['no object', forge('null'), 'expected an object'],
    ['another member', forge('{"engine":{},"parts":[],"x":1}'), 'nothing else'],
    ['deep nesting', forge('['.repeat(100_000)), 'nests deeper'],
    ['broken UTF-8', forge('{}').fill(0xff, 48, 49), 'SHA-256'],
    ['an unknown field', forgeHeader({ ...sampleHeader(), surprise: 1 }), 'surprise: expected no such field'],
    ['an inherited field name', forgeHeader({ ...sampleHeader(), constructor: 1 }), 'constructor: expected no such field'],
    ['a missing field', forgeHeader({ ...sampleHeader(), layers: undefined }), 'layers: expected a list, found nothing'],
    ['a wrong dtype', forgeHeader({ ...sampleHeader(), inputs: [{ name: 'x', dtype: 'complex64', dims: [] }] }), 'inputs[0].dtype'],
    ['a negative dimension', forgeHeader({ ...sampleHeader(), inputs: [{ name: 'x', dtype: 'int8', dims: [-1] }] }), 'inputs[0].dims[0]'],
    ['an absurd shape', forgeHeader({ ...sampleHeader(), outputs: [{ name: 'y', dtype: 'int8', dims: [2 ** 40, 2 ** 40] }] }), '2^53'],
    ['a batch that is text', forgeHeader({ ...sampleHeader(), options: { ...sampleHeader().options, batch: '8' } }), 'options.batch'],
    ['parts that are no list', forgeHeader(sampleHeader(), {}), 'parts: expected a list'],
    ['a part twice', parts(part({}), part({})), 'twice'],
    ['a part without a name', parts(part({ name: 1 })), 'parts[0].name'],
    ['a negative length', parts(part({ length: -1 })), 'whole numbers'],
    ['a fractional offset', parts(part({ offset: 0.5 })), 'whole numbers'],
    ['a part inside the header', parts(part({ offset: 0 })), 'not where its table says'],
    ['a part of 2^53 bytes', parts(part({ length: Number.MAX_SAFE_INTEGER })), "part 'p'"],
    ['a part of 2 GiB', lyingPart(2 ** 31), 'claims 2147483648 bytes'],
    ['too many parts', forge(`{"engine":{},"parts":[${'0,'.repeat(70_000)}0]}`), 'header is wrong'],
  ])('is refused: %s', async (_, bytes, message) => {
    const error = await refusal(bytes);
    expect(error.code).toBe('ENGINE_INVALID');
    expect(error.message).toContain(message);
  });

  it('keeps `__proto__` a plain key', async () => {
    const json = canonicalJson(sampleHeader()).replace('"sequence":128', '"__proto__":7');
    const { header } = await deserializeEngine(forge(`{"engine":${json},"parts":[]}`));
    expect(Object.entries(header.options.dims)).toEqual([['__proto__', 7]]);
    expect(({} as Record<string, unknown>)['7']).toBeUndefined();
  });

  it('never crashes on arbitrary JSON', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (engine, parts) => {
        expect((await refusal(forge(JSON.stringify({ engine, parts })))).code).toBe('ENGINE_INVALID');
      }),
      { seed: 7, numRuns: 300 },
    );
  });
});
