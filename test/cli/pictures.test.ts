/** Pictures as bytes from the command line: both forms in one run against one reference, and what is refused. */
import { describe, expect, it } from 'vitest';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import type { BenchRecord } from '../../src/results/record.ts';
import { PICTURES_SUITE, workplace } from './cli.ts';

describe('pictures as bytes', { timeout: 120_000 }, () => {
  it('give the answers that their numbers give, in a run that names both', async () => {
    const place = await workplace();
    await place.write('suites/pictures/suite.yaml', PICTURES_SUITE);
    const { stdout } = await place.run('run', 'suites/pictures', '--json');
    const { records } = JSON.parse(stdout) as { readonly records: readonly BenchRecord[] };
    const seen = new Map(records.map((record) => [record.case.variant.id, record.status === 'completed' ? record.accuracy : undefined]));
    const readings = (precision: string) => ['host', 'device'].map((where) => seen.get(`onnxruntime/${precision}/fusion-on/preprocess-${where}/threads-1`)!);
    expect(records).toHaveLength(4);
    for (const reading of readings('fp32')) expect(reading).toMatchObject({ samples: 4, agreementPercent: 100 });
    for (const { maxAbsError } of readings('fp32')) expect(maxAbsError).toBeLessThan(1e-4);
    // A last bit of the numbers may round an integer the other way.
    for (const { snrDb } of readings('int8')) expect(snrDb).toBeGreaterThan(25);
  });

  it('are refused where nothing says what pixels mean', async () => {
    const place = await workplace();
    const graph = newGraphBuilder('picture');
    graph.input('image', { dtype: 'float32', dims: [1, 3, 4, 4] });
    await place.write('model.onnx', exportGraph(graph.finish([graph.node('Neg', ['image'], {})])));
    const { status, stderr } = await place.run('build', 'model.onnx', '--option', 'preprocess=device');
    expect(status).not.toBe(0);
    expect(stderr).toContain('nothing says how pixels become numbers: build from a suite with an image input');
    expect((await place.run('build', 'model.onnx', '--option', 'preprocess=gpu')).stderr).toContain('preprocess: expected one of host, device');
  });
});
