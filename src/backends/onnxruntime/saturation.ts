/**
 * Whether onnxruntime's products of bytes saturate on this processor, found by making one.
 *
 * x86 processors without VNNI instructions add two products of an unsigned and a signed byte in 16 bits. onnxruntime has exact kernels beside them, which
 * a session asks for by `session.x64quantprecision`; but it takes the request on any x86 processor, and where VNNI makes the fast kernels exact the others
 * take twice as long (MobileNetV2 in int8 4.56 and 9.26 ms, one thread).
 */
import type * as OrtModule from 'onnxruntime-node';

type Ort = typeof OrtModule;

/** y = MatMulInteger(a uint8[1,64], b int8[64,16]), without zero points. */
export const PROBE = 'CAc6XAoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFwWhMKAWESDgoMCAISCAoCCAEKAghAWhMKAWISDgoMCAMSCAoCCEAKAggQYhMKAXkSDgoMCAYSCAoCCAEKAggQQgQKABAN';

const DEPTH = 64;
const COLUMNS = 16;
const EXACT = DEPTH * 255 * 127;

const found = new WeakMap<Ort, Promise<boolean>>();

/** Asked once a process. A library that can't make the product is taken for one that saturates. */
export function saturates(ort: Ort): Promise<boolean> {
  const known = found.get(ort);
  if (known) return known;
  const answer = largestProducts(ort).then(
    (products) => products.some((product) => product !== EXACT),
    () => true,
  );
  found.set(ort, answer);
  return answer;
}

async function largestProducts(ort: Ort): Promise<readonly number[]> {
  const session = await ort.InferenceSession.create(Buffer.from(PROBE, 'base64'), { intraOpNumThreads: 1, logSeverityLevel: 4 });
  const a = new ort.Tensor('uint8', new Uint8Array(DEPTH).fill(255), [1, DEPTH]);
  const b = new ort.Tensor('int8', new Int8Array(DEPTH * COLUMNS).fill(127), [DEPTH, COLUMNS]);
  const { y } = await session.run({ a, b });
  await session.release();
  return [...(y!.data as Int32Array)];
}
