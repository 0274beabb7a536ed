/**
 * WORKER_PROTOCOL stands for what a worker of another version of the tool is told and answers. This test knows the text of those
 * types: a change of it fails here until the number is raised with it, so that no worker is ever misread.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { WORKER_PROTOCOL } from '../../../src/measure/messages.ts';

/** Where the types lie that cross to a worker, or come with a side that another version prepared. */
const TYPES = {
  'measure/messages.ts': ['WorkerTask', 'TimingPolicy', 'Request', 'SliceOrder', 'RoundReading', 'LoadedReply', 'AnsweredReply', 'BegunReply', 'RoundReply', 'MemoryReply', 'Reply', 'SamplingNote'],
  'measure/inputs.ts': ['InputSource'],
  'measure/scenarios.ts': ['SamplePolicy'],
  'results/record.ts': ['Round', 'Slice', 'Scenario', 'YardstickReading'],
  'backends/backend.ts': ['DeviceInfo', 'LoadSteps'],
  'workflows/paired/side.ts': ['PreparedSide', 'SideCase', 'ReadyEngine'],
  'workflows/paired/revision/messages.ts': ['SideOrder', 'SideReply'],
} as const;

/** A declaration without comments and with single spaces. */
function declarationOf(source: string, name: string): string {
  const start = source.search(new RegExp(`^export (?:interface|type) ${name}\\b`, 'm'));
  if (start < 0) throw new Error(`there is no type ${name}`);
  const rest = source.slice(start);
  const end = rest.search(/\n(?:\}\n|\n)/);
  return rest
    .slice(0, end)
    .replace(/\/\*[^]*?\*\//g, '')
    .replace(/\s+/g, ' ')
    .trim();
}

test('a change of what workers are told or answer comes with another protocol number', () => {
  const text = Object.entries(TYPES).flatMap(([file, names]) => {
    const source = readFileSync(fileURLToPath(new URL(`../../../src/${file}`, import.meta.url)), 'utf8');
    return names.map((name) => declarationOf(source, name));
  });
  const hash = createHash('sha256').update(text.join('\n')).digest('hex').slice(0, 16);
  // Before a release the number may stay: no other version is out. After one, raise it and put the new pair here.
  expect([WORKER_PROTOCOL, hash]).toMatchInlineSnapshot(`
    [
      3,
      "c270f5a43923a1cd",
    ]
  `);
});
