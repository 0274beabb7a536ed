/** Writes docs/operators.md from the op table. Run after `npm run build` when the table has changed; a test compares the two. */
import { writeFile } from 'node:fs/promises';
import { translatedOps } from '../dist/src/onnx/upgrade.js';
import { operatorsPage } from '../dist/src/ops/docs.js';

await writeFile(new URL('../docs/operators.md', import.meta.url), operatorsPage(translatedOps()));
