/** Runs with int8 engines: what the accuracy run says of the ranges that they were built with. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../../src/config.ts';
import type { CompletedRecord } from '../../../../src/results/record.ts';
import { calibrateCommand } from '../../../../src/workflows/calibrate/command.ts';
import { runSuite } from '../../../../src/workflows/run/run.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';

/** A suite of normal inputs of this deviation. */
async function suiteOf(folder: string, name: string, std: number, quantization: object): Promise<string> {
  const path = join(folder, `${name}.json`);
  const suite = {
    name,
    description: 'normal inputs',
    model: { name: 'smoke', builder: { name: 'smoke' } },
    inputs: [{ kind: 'synthetic', values: { distribution: 'normal', std } }],
    task: { kind: 'classification' },
    variants: [{ backend: 'onnxruntime', precision: ['fp32', 'int8'], backendOptions: { threads: 1 } }],
    measure: { rounds: 1, timeMs: 20, builds: 1, isolation: 'case' },
    accuracy: { samples: 8 },
    quantization: { samples: 8, ...quantization },
  };
  await writeFile(path, JSON.stringify(suite));
  return path;
}

async function run(folder: string, suite: string): Promise<CompletedRecord[]> {
  const settings = await resolveConfig({ results: join(folder, 'results'), cache: join(folder, 'cache') }, folder);
  const request = { suite, settings, overrides: {}, modelFile: undefined, limit: undefined, device: undefined, resume: false, signal: new AbortController().signal, onEvent: () => {} };
  const { records } = await runSuite(request);
  return records.filter((record) => record.status === 'completed');
}

const ofRanges = (record: CompletedRecord) => record.warnings.flatMap((warning) => (warning.kind === 'notice' && warning.text.startsWith('int8 ranges of') ? [warning.text] : []));

describe('int8 ranges in a run', () => {
  it('fit samples like those of the calibration; the types of both variants are in their records', { timeout: 60_000 }, async () => {
    const folder = await temporaryFolder();
    const [fp32, int8] = await run(folder, await suiteOf(folder, 'same', 1, {}));
    expect(fp32!.accuracy).not.toHaveProperty('ranges');
    expect(fp32!.build.precision).toEqual({ float32: 1 });
    expect(int8!.build.precision!.uint8).toBeGreaterThan(0.9);
    expect(int8!.accuracy!.ranges).toMatchObject({ samples: 8 });
    expect(ofRanges(int8!)).toEqual([]);
  });

  it('are warned of by the names of the worst tensors where the inputs are twice as large', { timeout: 60_000 }, async () => {
    const folder = await temporaryFolder();
    const out = join(folder, 'calibration.json');
    const { config } = await resolveConfig({ cache: join(folder, 'cache') }, folder);
    const none = { modelFile: undefined, overrides: {}, samples: undefined, method: undefined, scheme: undefined, percentile: undefined, check: undefined };
    await calibrateCommand({ ...none, suite: await suiteOf(folder, 'day', 1, {}), out, config, signal: new AbortController().signal, onEvent: () => {} });
    const [, int8] = await run(folder, await suiteOf(folder, 'night', 2, { calibration: out }));
    const { tensors } = int8!.accuracy!.ranges!;
    expect(tensors[0]).toMatchObject({ suspicious: true });
    expect(tensors[0]!.clippedShare).toBeGreaterThan(0.02);
    expect(ofRanges(int8!)).toEqual([expect.stringContaining(tensors[0]!.tensor)]);
  });
});
