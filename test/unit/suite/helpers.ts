import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** The least that a suite can say, with changes; `undefined` takes a key away. */
export function minimalSuite(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const suite = {
    name: 'tiny',
    description: 'for tests',
    model: { name: 'smoke', builder: { name: 'smoke' } },
    inputs: [{ kind: 'synthetic', values: { distribution: 'uniform' } }],
    task: { kind: 'raw' },
    variants: [{ backend: 'null' }],
    ...changes,
  };
  return Object.fromEntries(Object.entries(suite).filter(([, value]) => value !== undefined));
}

/** A folder that goes away with the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-suite-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
