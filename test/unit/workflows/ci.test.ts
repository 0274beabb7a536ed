/** What the action and the pages on continuous integration tell people to type exists. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../../src/commands/index.ts';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

interface Line {
  readonly command: string;
  readonly flags: readonly string[];
}

/** `tsrt-bench COMMAND … --flag …` wherever it stands. */
function commandLines(text: string): Line[] {
  return [...text.matchAll(/tsrt-bench ((?:baseline )?[a-z]+)\b([^\n`|&;)]*)/g)].flatMap(([, words = '', rest = '']) => {
    const command = words.replace(' ', ':');
    return command in COMMANDS ? [{ command, flags: [...rest.matchAll(/--([a-z-]+)/g)].map(([, flag]) => flag!) }] : [];
  });
}

describe.each(['action.yml', 'docs/ci.md', 'docs/methodology.md', 'README.md'])('%s', (path) => {
  const lines = commandLines(read(path));

  it('names commands', () => {
    expect(lines.length).toBeGreaterThan(1);
  });

  it('gives them flags that they have', () => {
    const unknown = lines.flatMap(({ command, flags }) => {
      const known = Object.keys((COMMANDS as unknown as Record<string, { readonly flags: object }>)[command]!.flags);
      return flags.filter((flag) => !known.includes(flag) && flag !== 'json' && flag !== 'help').map((flag) => `${command} --${flag}`);
    });
    expect(unknown).toEqual([]);
  });
});
