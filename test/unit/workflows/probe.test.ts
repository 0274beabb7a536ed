import { describe, expect, it } from 'vitest';
import type { Backend, DeviceInfo } from '../../../src/backends/backend.ts';
import { matchDevice } from '../../../src/backends/match.ts';
import { nullBackend } from '../../../src/backends/null/null.ts';
import { chooseDevices, createProbe, deviceOf } from '../../../src/workflows/probe.ts';

function backendOf(name: string, ...slugs: readonly string[]): Backend {
  const devices = slugs.map((slug): DeviceInfo => ({ slug, kind: 'gpu', description: slug, properties: {} }));
  return {
    ...nullBackend,
    name,
    probe: async (wanted) => ({ status: 'available', version: '1', devices: wanted === undefined ? devices : [devices[matchDevice(wanted, devices, name)]!] }),
  };
}

const [gpus, cpu] = [backendOf('gpus', 'big-gpu', 'small-gpu'), backendOf('cpu', 'the-cpu')];

describe('chooseDevices', () => {
  it('finds the device in the backends that have it, and leaves the others their first', async () => {
    const devices = await chooseDevices('small', [cpu, gpus]);
    expect([...devices]).toEqual([['gpus', 'small-gpu']]);
    const probe = createProbe(devices);
    expect(deviceOf(await probe(gpus))).toBe('small-gpu');
    expect(await probe(gpus)).toMatchObject({ devices: [{ slug: 'small-gpu' }] });
    expect(deviceOf(await probe(cpu))).toBeUndefined();
    expect(await probe(cpu)).toMatchObject({ devices: [{ slug: 'the-cpu' }] });
  });

  it('names every choice where no backend has it', async () => {
    await expect(chooseDevices('other', [cpu, gpus])).rejects.toMatchObject({
      code: 'USAGE',
      message: "there is no device 'other'",
      details: ["cpu has no device 'other'. There is: 0 the-cpu (the-cpu).", "gpus has no device 'other'. There are: 0 big-gpu (big-gpu), 1 small-gpu (small-gpu)."],
    });
  });

  it('takes an index for one backend only', async () => {
    expect((await chooseDevices('1', [gpus])).get('gpus')).toBe('small-gpu');
    await expect(chooseDevices('1', [cpu, gpus])).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('says why a backend could not be asked', async () => {
    const broken: Backend = { ...gpus, name: 'broken', probe: async () => ({ status: 'unavailable', reason: 'no driver', fix: 'Install it.' }) };
    await expect(chooseDevices('big', [broken])).rejects.toMatchObject({ details: ['broken: no driver. Install it.'] });
  });
});
