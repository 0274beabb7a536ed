import { describe, expect, it } from 'vitest';
import type { DeviceInfo } from '../../../src/backends/backend.ts';
import { matchDevice } from '../../../src/backends/match.ts';
import type { TsrtError } from '../../../src/errors.ts';

const device = (slug: string, description: string): DeviceInfo => ({ slug, kind: 'gpu', description, properties: {} });
const DEVICES = [device('nvidia-h200', 'NVIDIA H200, driver 575'), device('intel-arc-a770', 'Intel Arc A770, Mesa 25'), device('intel-uhd-770', 'Intel UHD 770, Mesa 25')];
const match = (wanted: string): number => matchDevice(wanted, DEVICES, 'webgpu', ['swiftshader']);

function refusal(wanted: string): TsrtError {
  try {
    match(wanted);
  } catch (error) {
    return error as TsrtError;
  }
  throw new Error(`'${wanted}' was taken`);
}

describe('matchDevice', () => {
  it.each([
    ['intel-uhd-770', 2],
    ['1', 1],
    ['ARC', 1],
    ['driver 575', 0],
  ])('%s', (wanted, place) => {
    expect(match(wanted)).toBe(place);
  });

  it('lists the choices where none fits', () => {
    for (const wanted of ['radeon', '3', '']) {
      const { code, fix } = refusal(wanted);
      expect(code).toBe('USAGE');
      expect(fix).toBe('There are: 0 nvidia-h200 (NVIDIA H200, driver 575), 1 intel-arc-a770 (Intel Arc A770, Mesa 25), 2 intel-uhd-770 (Intel UHD 770, Mesa 25), swiftshader.');
    }
  });

  it('does not guess between several', () => {
    expect(refusal('intel').message).toBe("'intel' matches several devices of webgpu");
  });

  it('takes the first of equal adapters', () => {
    expect(matchDevice('h200', [DEVICES[0]!, DEVICES[0]!], 'webgpu')).toBe(0);
  });
});
