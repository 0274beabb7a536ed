/** The process that prepares a side: what it says is passed on, and what it can't say is refused by name. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { RunEvent } from '../../../../../src/workflows/events.ts';
import { WORKER_PROTOCOL } from '../../../../../src/measure/messages.ts';
import { RECORD_SCHEMA_VERSION } from '../../../../../src/results/record.ts';
import { prepareRemotely } from '../../../../../src/workflows/paired/revision/remote.ts';
import { temporaryFolder } from '../../../../helpers/folder.ts';

const ORDER = { suite: 's', modelFile: undefined, plugins: undefined, cache: '/cache', device: undefined, timeMs: undefined, seed: 1, folder: '/f', cases: undefined, accuracy: false };
const HELLO = { kind: 'hello', version: '0.9.0', protocol: { worker: WORKER_PROTOCOL, record: RECORD_SCHEMA_VERSION } };

/** A side worker that answers an order with these messages, then ends as `end` says. */
async function ask(messages: readonly object[], { end = 'process.disconnect()', signal = new AbortController().signal, folder = '' } = {}) {
  folder ||= await temporaryFolder();
  const entry = join(folder, 'side-worker.mjs');
  await writeFile(entry, `process.on('message', async () => { for (const m of ${JSON.stringify(messages)}) await new Promise((r) => process.send(m, r)); ${end}; });`);
  const events: RunEvent[] = [];
  const side = prepareRemotely({ order: ORDER, entry, folder, at: 'revision v1', signal, onEvent: (event) => events.push(event) });
  return { side, events };
}

describe('prepareRemotely', () => {
  test('events are passed on, and the side is the answer', async () => {
    const event = { kind: 'notice', text: 'there' } as const;
    const { side, events } = await ask([HELLO, { kind: 'event', event }, { kind: 'prepared', side: { cases: [] } }]);
    expect(await side).toEqual({ cases: [] });
    expect(events).toEqual([event]);
  });

  test('another protocol or record schema is refused by name, before anything else is believed', async () => {
    const { side } = await ask([{ ...HELLO, protocol: { worker: WORKER_PROTOCOL + 1, record: 99 } }, { kind: 'prepared', side: {} }]);
    await expect(side).rejects.toMatchObject({
      code: 'BASELINE_INCOMPARABLE',
      message: 'the tsrt-bench 0.9.0 of revision v1 speaks a different protocol from this one',
      details: [`worker protocol: there ${WORKER_PROTOCOL + 1}, here ${WORKER_PROTOCOL}`, `record schema: there 99, here ${RECORD_SCHEMA_VERSION}`],
    });
  });

  test('an error of that tool comes with the revision; one that this version has no code for is incomparable', async () => {
    const broken = await ask([HELLO, { kind: 'failed', error: { code: 'SUITE_INVALID', message: 'a mistake', details: ['name: expected text'], fix: 'mend it' } }]);
    await expect(broken.side).rejects.toMatchObject({ code: 'SUITE_INVALID', message: 'a mistake, at revision v1', details: ['name: expected text'], fix: 'mend it' });
    const missing = await ask([HELLO, { kind: 'failed', error: { code: 'SUITE_NOT_FOUND', message: "there is no suite 's'", details: ['resnet50: /suites/resnet50'], fix: 'name one of resnet50' } }]);
    await expect(missing.side).rejects.toMatchObject({ code: 'SUITE_NOT_FOUND', message: "there is no suite 's', at revision v1", details: [], fix: expect.stringContaining('revision that has the suite') });
    const later = await ask([HELLO, { kind: 'failed', error: { code: 'OF_ANOTHER_VERSION', message: 'odd' } }]);
    await expect(later.side).rejects.toMatchObject({ code: 'BASELINE_INCOMPARABLE', message: 'odd, at revision v1' });
  });

  test('a place in the checkout, which is gone by then, is named from the project’s folder on', async () => {
    const folder = await temporaryFolder();
    const at = async (place: string) => (await ask([HELLO, { kind: 'failed', error: { code: 'SUITE_INVALID', message: 'a mistake', place } }], { folder })).side;
    await expect(at(join(folder, 'suites/s/suite.yaml'))).rejects.toMatchObject({ place: 'suites/s/suite.yaml' });
    await expect(at('/elsewhere/suite.yaml')).rejects.toMatchObject({ place: '/elsewhere/suite.yaml' });
  });

  test('one that dies is quoted', async () => {
    const { side } = await ask([HELLO], { end: "console.error('last words'); process.exit(7)" });
    await expect(side).rejects.toMatchObject({ code: 'BASELINE_INCOMPARABLE', message: expect.stringContaining('status 7'), details: ['last words'] });
  });

  test('an interruption ends it', async () => {
    const controller = new AbortController();
    const { side } = await ask([HELLO], { end: 'setInterval(() => {}, 1000)', signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    await expect(side).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });
});
