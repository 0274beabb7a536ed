import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { checkCompatible, compareRequirements, compatibilityOf } from '../../../src/engine/fingerprint.ts';
import { TOOL_VERSION } from '../../../src/version.ts';
import { sampleHeader } from '../../helpers/engine.ts';

const device = { slug: 'fake', properties: { adapter: 'fake', driver: '1' } };

function refusal(run: () => void): TsrtError {
  try {
    run();
  } catch (error) {
    if (error instanceof TsrtError) return error;
  }
  throw new Error('not refused');
}

describe('compareRequirements', () => {
  it('names each property that differs or is missing, in order', () => {
    expect(compareRequirements({ driver: '2', adapter: 'fake', 'shader-f16': 'yes' }, device.properties)).toEqual([
      { key: 'driver', required: '2', found: '1' },
      { key: 'shader-f16', required: 'yes', found: undefined },
    ]);
  });

  it('does not find inherited properties', () => {
    expect(compareRequirements({ toString: 'x' }, {})).toEqual([{ key: 'toString', required: 'x', found: undefined }]);
  });
});

describe('checkCompatible', () => {
  it('accepts the device that the engine was built for', () => {
    expect(() => checkCompatible(sampleHeader(), 'null', device)).not.toThrow();
  });

  it('lists every difference at once', () => {
    const header = sampleHeader({ tool: { name: 'tsrt-bench', version: '9.0.0' }, requires: { adapter: 'other', f16: 'yes' } });
    const error = refusal(() => checkCompatible(header, 'webgpu', device));
    expect(error.code).toBe('ENGINE_INCOMPATIBLE');
    expect(error.details).toEqual([
      'backend: engine null, here webgpu',
      `tool version: engine 9.0.0, here ${TOOL_VERSION}`,
      'adapter: engine other, here fake',
      'f16: engine yes, here missing',
    ]);
  });
});

describe('versions', () => {
  it('agree by major, and by minor before 1.0', () => {
    expect([compatibilityOf('1.2.3'), compatibilityOf('1.9.0'), compatibilityOf('0.1.9'), compatibilityOf('0.2.0')]).toEqual([
      '1', '1', '0.1', '0.2',
    ]);
  });
});
