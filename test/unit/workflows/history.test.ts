import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { encodeRecord } from '../../../src/results/codec.ts';
import { runFilePath } from '../../../src/results/store.ts';
import { readHistory } from '../../../src/workflows/history.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { completed } from '../../helpers/records.ts';

it('finds a suite whose name is not fit for a folder, as that of résumé.onnx', async () => {
  const results = await temporaryFolder();
  const [suite, runId] = ['r-sum-', '20260101T000000Z-000001'];
  const path = runFilePath(results, suite, 'cpu-test-2c', runId);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${encodeRecord(completed({ suite, runId, latencyMs: [[1, 2, 3]] }))}\n`);
  const asked = { results, metric: 'latency-p50', caseFilter: undefined, last: 200 } as const;
  for (const name of [suite, undefined]) {
    const { suite: found, histories } = await readHistory({ ...asked, suite: name });
    expect([found, histories.map(({ points }) => points.length)]).toEqual([suite, [1]]);
  }
});
