/** Halves on a Node whose JavaScript has an array of them. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { loadOrt } from '../../../src/backends/onnxruntime/library.ts';
import { toOrt } from '../../../src/backends/onnxruntime/tensors.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';

// onnxruntime looks for it when it makes its first tensor.
beforeAll(() => vi.stubGlobal('Float16Array', class extends Uint16Array {}));
afterAll(() => vi.unstubAllGlobals());

it('reach onnxruntime as their bits', async () => {
  const tensor = toOrt(await loadOrt(), fromNumbers('float16', [2], [1, -2]));
  expect(tensor.type).toBe('float16');
  expect(tensor.data).toStrictEqual(Uint16Array.of(0x3c00, 0xc000));
});
