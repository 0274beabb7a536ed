/** Parts of plugins that end the process, or never come to an end: the worker's loss is a finding. Needs the built worker. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { Lane } from '../../../src/kit/lane.ts';
import type { PartResult } from '../../../src/kit/parts.ts';
import { testPlugin } from '../../../src/workflows/plugin-test.ts';
import { builtWorkers } from '../../helpers/built.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

async function plugin(parts: string): Promise<string> {
  const file = join(await temporaryFolder(), 'index.mjs');
  await writeFile(file, `const reporter = (name, render) => ({ name, description: '', fileExtension: 'txt', render });
const calibrator = (name, range) => ({ name, description: '', range });
export default { name: 'p', version: '1.0.0', ${parts} };`);
  return file;
}

/** What the kit says of the parts, on a device that is not there. */
async function parts(text: string, timeoutMs: number): Promise<readonly PartResult[]> {
  const report = await testPlugin({ plugin: await plugin(text), others: [], device: undefined, seed: 1, effort: 1, timeoutMs, signal: undefined });
  expect(report.passed).toBe(report.parts.every(({ status }) => status === 'passed'));
  return report.parts;
}

describe('parts that take their worker with them', () => {
  beforeAll(builtWorkers);

  it('a part that ends the process failed, and the others are checked all the same', async () => {
    const found = await parts("reporters: [reporter('quits', () => process.exit(0)), reporter('killed', () => { console.error('out of luck'); process.kill(process.pid, 'SIGKILL'); return ''; }), reporter('right', () => 'text')]", 60_000);
    expect(found).toEqual([
      { part: 'reporter quits', status: 'failed', message: 'the process died (exit 0)' },
      { part: 'reporter killed', status: 'failed', message: 'the process died (SIGKILL): out of luck' },
      { part: 'reporter right', status: 'passed' },
    ]);
  });

  it('what a part leaves behind is no fault of the next', async () => {
    const found = await parts("reporters: [reporter('spoils', () => { globalThis.spoilt = true; return 'text'; }), reporter('right', () => (globalThis.spoilt ? 3 : 'text'))]", 60_000);
    expect(found.map(({ status }) => status)).toEqual(['passed', 'passed']);
  });

  it('endless loops and promises hang, and are ended', async () => {
    const found = await parts("datasets: [{ name: 'waits', description: '', open: () => new Promise(() => {}) }], calibrators: [calibrator('loops', () => { for (;;); }), calibrator('right', () => ({ low: 0, high: 0 }))]", 2500);
    expect(found).toEqual([
      { part: 'dataset waits', status: 'failed', message: 'hangs: no answer in 2.5 s' },
      { part: 'calibrator loops', status: 'failed', message: 'hangs: no answer in 2.5 s' },
      { part: 'calibrator right', status: 'passed' },
    ]);
  });

  it('an abort ends an endless loop at once, and what is asked afterwards', async () => {
    const controller = new AbortController();
    const lane = new Lane({ open: { kind: 'open', plugins: [await plugin("calibrators: [calibrator('loops', () => { for (;;); })]")], cwd: '/', device: undefined }, environment: {}, signal: controller.signal });
    await lane.open();
    const ask = (): Promise<unknown> => lane.checkPart({ kind: 'part', part: { kind: 'calibrator', name: 'loops' }, material: { datasetFolder: undefined, seed: 1, records: [] } }, 600_000);
    const asked = ask().catch((error: unknown) => error);
    await setTimeout(200);
    controller.abort();
    expect(await asked).toMatchObject({ name: 'AbortError' });
    await expect(ask()).rejects.toMatchObject({ name: 'AbortError' });
  });
});
