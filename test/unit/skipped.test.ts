/** The list of what did not run, from made-up results. */
import { describe, expect, it } from 'vitest';
import type { TestModule } from 'vitest/node';
import { describeSkipped } from '../helpers/skipped.ts';

interface Made {
  readonly titles: readonly string[];
  readonly note?: string;
}

/** As much of a module as the list reads. */
function moduleOf(file: string, skipped: readonly Made[]): TestModule {
  const module = { type: 'module', relativeModuleId: file };
  const tests = skipped.map(({ titles, note }) => {
    const nodes = titles.reduce<unknown>((parent, name, i) => ({ type: i === titles.length - 1 ? 'test' : 'suite', name, parent }), module);
    return Object.assign(nodes as object, { fullName: titles.join(' > '), result: () => ({ state: 'skipped', note }) });
  });
  return { ...module, children: { allTests: () => tests } } as unknown as TestModule;
}

describe('what was skipped', () => {
  it('is counted by file and reason, and nothing is said where all ran', () => {
    const device = ['convolutions (skipped without SwiftShader)', 'depthwise', 'one'];
    const modules = [moduleOf('a.test.ts', [{ titles: device }, { titles: [...device.slice(0, 2), 'two'] }, { titles: ['own title'], note: 'needs root' }]), moduleOf('b.test.ts', [{ titles: ['plain', 'later'] }])];
    expect(describeSkipped(modules)).toEqual([
      '',
      'SKIPPED  4 tests did not run here:',
      '      2  a.test.ts: convolutions (skipped without SwiftShader)',
      '      1  a.test.ts: own title: needs root',
      '      1  b.test.ts: plain > later',
    ]);
    expect(describeSkipped([moduleOf('a.test.ts', [])])).toEqual([]);
  });
});
