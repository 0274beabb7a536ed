import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { LOWERINGS } from '../../../src/backends/webgpu/lower/table.ts';
import { translatedOps } from '../../../src/onnx/upgrade.ts';
import { operatorsPage, opTableRows } from '../../../src/ops/docs.ts';

const page = fileURLToPath(new URL('../../../docs/operators.md', import.meta.url));

it('docs/operators.md says what the op table says: run `npm run build && node scripts/write-operators.mjs`', async () => {
  expect(await readFile(page, 'utf8')).toBe(operatorsPage(translatedOps()));
});

it('every operator has a row, and no internal one has', () => {
  const text = operatorsPage(translatedOps());
  for (const { op } of opTableRows()) expect(text).toContain(`| ${op} |`);
  expect(text).not.toContain('FusedElementwise');
});

it('every operator has a kernel on webgpu, as the page says', () => {
  expect(opTableRows().filter(({ op }) => !LOWERINGS[op])).toEqual([]);
});
