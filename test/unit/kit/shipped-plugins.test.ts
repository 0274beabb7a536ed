/** The plugins with ops that come along pass the kit. Needs the built worker; kernels are skipped without SwiftShader. */
import { beforeAll, describe, expect, it } from 'vitest';
import { findSwiftshader } from '../../../src/backends/webgpu/swiftshader.ts';
import { testPlugin } from '../../../src/workflows/plugin-test.ts';
import { builtWorkers } from '../../helpers/built.ts';

const device = (await findSwiftshader()) ? 'swiftshader' : undefined;

describe('shipped plugins', () => {
  beforeAll(builtWorkers);

  it.each(['snake', 'rotary', 'deform-conv'])('%s', async (plugin) => {
    const report = await testPlugin({ plugin, others: [], device, seed: 7, effort: 0.4, timeoutMs: 60_000, signal: undefined });
    const failed = report.ops.flatMap(({ checks }) => checks.flatMap((check) => (check.status === 'failed' ? [`${check.check}: ${check.message} (${check.input})`] : [])));
    expect(failed).toEqual([]);
  });
});
