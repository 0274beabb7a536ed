/** A server's load, as a user offers it to an engine: requests of one item, collected into batches. */
import { describe, expect, it } from 'vitest';
import { workplace } from './cli.ts';

const SUITE = `
name: served
description: requests of one item
model: { name: smoke, builder: { name: smoke } }
task: { kind: raw }
variants:
  - { backend: onnxruntime, backendOptions: { threads: 1 } }
batches: 8
scenarios:
  - { name: server, targetQps: 2000, maxQueueDelayMs: 5 }
  - { name: server, targetQps: 1000000, maxQueueDelayMs: 0 }
measure: { rounds: 1, timeMs: 100, timeoutMs: 30000 }
`;

interface Served {
  readonly records: readonly {
    readonly status: string;
    readonly case: { readonly id: string };
    readonly rounds: readonly { readonly requests: number; readonly batches: number; readonly samplesNs: readonly number[] }[];
    readonly warnings: readonly { readonly kind: string }[];
  }[];
}

describe('a server', () => {
  it('collects requests into batches, says how many went together, and names a load that it cannot bear', async () => {
    const place = await workplace();
    await place.write('suites/served/suite.yaml', SUITE);
    const { status, stdout } = await place.run('run', 'suites/served', '--no-accuracy', '--json');
    expect(status).toBe(0);
    const { records } = JSON.parse(stdout) as Served;
    const byId = new Map(records.map((record) => [record.case.id.replace(/.*\//, ''), record]));
    expect([...byId.keys()].sort()).toEqual(['server-1000000qps-batching-0ms', 'server-2000qps-batching-5ms']);
    for (const record of records) {
      expect(record.status).toBe('completed');
      const [round] = record.rounds;
      expect(round!.samplesNs).toHaveLength(round!.requests);
      expect(round!.batches).toBeGreaterThanOrEqual(Math.ceil(round!.requests / 8));
      expect(round!.batches).toBeLessThanOrEqual(round!.requests);
    }
    expect(byId.get('server-1000000qps-batching-0ms')!.warnings.map(({ kind }) => kind)).toContain('overloaded');

    const report = await place.run('report', '--format', 'csv');
    expect(report.stdout.split('\r\n')[0]).toContain(',items_per_batch,');
    const markdown = await place.run('report', '--format', 'markdown');
    expect(markdown.stdout).toMatch(/server at 2000 QPS, batching ≤ 5 ms/);
    expect(markdown.stdout).toMatch(/1000000 requests per second arrived but only \d+ were answered/);
  });
});
