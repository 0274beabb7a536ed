import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { operatorsPage, opTableRows } from '../../../src/ops/docs.ts';

const page = fileURLToPath(new URL('../../../docs/operators.md', import.meta.url));

it('docs/operators.md says what the op table says: run `npm run build && node scripts/write-operators.mjs`', async () => {
  expect(await readFile(page, 'utf8')).toBe(operatorsPage());
});

it('every operator has a row, and no internal one has', () => {
  const text = operatorsPage();
  for (const { op } of opTableRows()) expect(text).toContain(`| ${op} |`);
  expect(text).not.toContain('FusedElementwise');
});
