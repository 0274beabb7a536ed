/** Plugins' datasets, calibrators and suites where a suite names them. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { calibrateRange } from '../../../src/quantize/calibrators.ts';
import { createObserver } from '../../../src/quantize/observer.ts';
import { createRegistry } from '../../../src/registry.ts';
import { openDataset } from '../../../src/suite/datasets.ts';
import { loadSuite, parseSuite } from '../../../src/suite/load.ts';
import type { DatasetSource } from '../../../src/suite/source.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { minimalSuite } from '../suite/helpers.ts';

const picture = { inputs: [{ kind: 'image', preprocess: { crop: { width: 8, height: 8 } } }] };

describe('parts of plugins', () => {
  it('a dataset lists pictures, and the harness decodes them', async () => {
    const folder = await temporaryFolder();
    await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } }).png().toFile(join(folder, 'a.picture'));
    const source: DatasetSource = {
      name: 'odd',
      description: 'files that no folder of pictures would list',
      images: async (place) => ({ images: [{ name: 'a', path: join(place, 'a.picture'), label: 3 }], labelSource: 'labels file', notices: [] }),
    };
    const registry = createRegistry([{ plugin: { name: 'p', version: '1', datasets: [source] }, source: '/p' }]);
    const suite = parseSuite(minimalSuite({ ...picture, dataset: { source: 'odd', path: '.' } }), '/s/suite.json');
    const dataset = await openDataset({
      inputs: suite.inputs,
      bindings: [{ name: 'x', dtype: 'float32', dims: [1, 3, 8, 8] }],
      batch: 1,
      source: registry.dataset(suite.dataset.source!),
      folder,
      classes: 10,
      labelsFile: undefined,
      labelOffset: 0,
      limit: undefined,
      skipBroken: false,
      samples: 1,
      seed: 1,
    });
    const batches = [];
    for await (const batch of dataset.batches()) batches.push(batch);
    expect(batches.map(({ labels, names }) => ({ labels, names }))).toEqual([{ labels: [3], names: ['a'] }]);
    expect(() => registry.dataset('od')).toThrow(/did you mean 'odd'/);
  });

  it('a calibrator chooses the range, within what was seen', () => {
    const observer = createObserver();
    observer.add(Float32Array.of(-1, 0, 4));
    const distribution = observer.distribution();
    const options = { method: 'half', scheme: 'affine', percentile: 99 } as const;
    expect(calibrateRange(distribution, { ...options, custom: ({ max }) => ({ low: -9, high: max / 2 }) })).toEqual({ low: -1, high: 2 });
    expect(() => calibrateRange(distribution, { ...options, custom: () => ({ low: 1, high: 2 }) })).toThrow(/in which zero does not lie/);
  });

  it('a suite is called by its folder’s name', async () => {
    const folder = join(await temporaryFolder(), 'nearby');
    await mkdir(folder);
    await writeFile(join(folder, 'suite.json'), JSON.stringify(minimalSuite({ quantization: { method: 'half' } })));
    const { suites } = createRegistry([{ plugin: { name: 'p', version: '1', suites: [folder] }, source: '/p' }]);
    expect((await loadSuite('nearby', { cwd: '/', plugins: suites })).quantization.method).toBe('half');
  });
});
