/** Exact kernels for bytes are asked for where the fast ones saturate, and only there. */
import { describe, expect, it } from 'vitest';
import { loadOrt, openSession, type Ort, type SessionOptions } from '../../../src/backends/onnxruntime/library.ts';
import { PROBE, saturates } from '../../../src/backends/onnxruntime/saturation.ts';

const EXACT = 64 * 255 * 127;

/** A library whose products of bytes are `product`, and what its sessions were asked for beside the probe's. */
function libraryOf(product: number | Error) {
  const asked: (SessionOptions | undefined)[] = [];
  let probes = 0;
  const ort = {
    Tensor: function Tensor() {},
    InferenceSession: {
      create: async (model: Uint8Array, options?: SessionOptions) => {
        if (!Buffer.from(model).equals(Buffer.from(PROBE, 'base64'))) return void asked.push(options);
        probes++;
        if (product instanceof Error) throw product;
        return { run: async () => ({ y: { data: Int32Array.of(EXACT, product) } }), release: async () => {} };
      },
    },
  } as unknown as Ort;
  return { ort, asked, probes: () => probes };
}

describe('products of bytes', () => {
  it.each([
    ['exact', EXACT, { intraOpNumThreads: 1 }],
    ['saturated', 32 * 32767, { intraOpNumThreads: 1, extra: { session: { x64quantprecision: '1' } } }],
    ['not to be had', new Error('no kernel'), { intraOpNumThreads: 1, extra: { session: { x64quantprecision: '1' } } }],
  ])('%s: what sessions are asked for', async (_, product, wanted) => {
    const { ort, asked, probes } = libraryOf(product);
    await openSession(ort, new Uint8Array([1]), { intraOpNumThreads: 1 });
    await openSession(ort, new Uint8Array([2]), { intraOpNumThreads: 1 });
    expect(asked).toEqual([wanted, wanted]);
    expect(probes()).toBe(1);
  });

  it('of this processor and library are made by the probe: exact, or pairs cut at 16 bits', async () => {
    const ort = await loadOrt();
    const session = await ort.InferenceSession.create(Buffer.from(PROBE, 'base64'));
    const { y } = await session.run({ a: new ort.Tensor('uint8', new Uint8Array(64).fill(255), [1, 64]), b: new ort.Tensor('int8', new Int8Array(1024).fill(127), [64, 16]) });
    const [sum] = y!.data as Int32Array;
    expect([EXACT, 32 * 32767]).toContain(sum);
    expect(await saturates(ort)).toBe(sum !== EXACT);
  });
});
