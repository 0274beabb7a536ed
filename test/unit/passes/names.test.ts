import { describe, expect, it } from 'vitest';
import { PASS_NAMES, passNames } from '../../../src/passes/names.ts';
import { PASSES } from '../../../src/passes/pipeline.ts';

describe('passNames', () => {
  it('takes every pass and the lowering without copies', () => {
    expect(passNames([...PASSES.map(({ name }) => name), 'windows'], '--disable-pass')).toEqual(PASS_NAMES);
    expect(passNames([], '--disable-pass')).toEqual([]);
  });

  it('refuses what no pass is called, with the nearest and all', () => {
    expect(() => passNames(['transposes', 'fuse-con'], '--disable-pass')).toThrow(
      expect.objectContaining({ code: 'USAGE', place: '--disable-pass', message: "there is no pass 'fuse-con'; did you mean 'fuse-conv'?", fix: expect.stringMatching(/^one of decompose-custom, .*, windows$/) as string }) as Error,
    );
  });
});
