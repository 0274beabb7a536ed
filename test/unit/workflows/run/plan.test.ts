/** Which engines are loaded once before their cases load them. */
import { expect, test } from 'vitest';
import type { Availability, DeviceInfo } from '../../../../src/backends/backend.ts';
import { nullBackend } from '../../../../src/backends/null/null.ts';
import { onnxruntimeBackend } from '../../../../src/backends/onnxruntime/onnxruntime.ts';
import { webgpuBackend } from '../../../../src/backends/webgpu/webgpu.ts';
import { loadsFirst } from '../../../../src/workflows/run/plan.ts';

const device = (slug: string, kind: DeviceInfo['kind']): DeviceInfo => ({ slug, kind, description: '', properties: {} });

test('engines of a backend that compiles at load are loaded first on a GPU, on the device that is meant', () => {
  const available: Availability = { status: 'available', version: '1', devices: [device('card', 'gpu'), device('software', 'cpu')] };
  expect([undefined, 'card', 'software'].map((slug) => loadsFirst(webgpuBackend, slug, available))).toEqual([true, true, false]);
  expect(loadsFirst(webgpuBackend, undefined, { status: 'unavailable', reason: 'no adapter', fix: 'none' })).toBe(false);
  expect([nullBackend, onnxruntimeBackend].map((backend) => loadsFirst(backend, 'card', available))).toEqual([false, false]);
});
