/** What is asked of an adapter. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { openDevice } from '../../../src/backends/webgpu/device.ts';
import type { Adapter } from '../../../src/backends/webgpu/globals.ts';

it('openDevice asks for the features and limits that docs/runtime.md names', async () => {
  const asked: GPUDeviceDescriptor[] = [];
  const adapter = {
    features: { has: () => true },
    limits: new Proxy({}, { get: () => 1 }),
    requestDevice(descriptor: GPUDeviceDescriptor) {
      asked.push(descriptor);
      throw new Error('enough is known');
    },
  } as unknown as Adapter;
  await expect(openDevice(adapter)).rejects.toThrow('enough is known');
  const { requiredFeatures = [], requiredLimits = {} } = asked[0]!;
  const text = readFileSync(new URL('../../../docs/runtime.md', import.meta.url), 'utf8');
  const names = [...requiredFeatures, ...Object.keys(requiredLimits)];
  expect(names.length).toBeGreaterThan(10);
  expect(names.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
});
