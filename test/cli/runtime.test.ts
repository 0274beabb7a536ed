/** The built runtime, loaded where there is nothing of Node: no module of its own, no `process`, no `Buffer`, no `require`. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { serializeEngine } from '../../src/engine/file.ts';
import { fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { engineOf } from '../device/helpers.ts';
import { temporaryFolder } from '../helpers/folder.ts';

const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

it('loads without Node and reads an engine', async () => {
  const graph = newGraphBuilder('small');
  graph.input('x', { dtype: 'float32', dims: [4] });
  const engine = engineOf(graph.finish([graph.node('Add', ['x', graph.constant(fromNumbers('float32', [4], [1, 2, 3, 4]))], {})]));
  const file = join(await temporaryFolder(), 'small.engine');
  await writeFile(file, await serializeEngine(engine));
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--experimental-vm-modules',
    '--no-warnings',
    path('../helpers/web-realm.mjs'),
    path('../../dist/bundle/runtime.js'),
    file,
  ]);
  expect(JSON.parse(stdout)).toEqual({
    backend: 'webgpu',
    parts: ['weights'],
    damaged: 'ENGINE_INVALID',
    functions: ['function', 'function', 'function', 'function'],
    modules: expect.any(Number),
  });
});
