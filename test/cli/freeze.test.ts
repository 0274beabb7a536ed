/** `freeze`, as a user meets it: a build that is refused, the way out that it names, and a build that works. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { modelBytes, node, value } from '../unit/onnx/models.ts';
import { workplace } from './cli.ts';

describe('freeze', () => {
  it('is named where a shape depends on an input, and makes the model one that builds', async () => {
    const place = await workplace();
    const model = modelBytes({
      inputs: [value('x', 'float32', [1, 2, 3]), value('shape', 'int64', [2])],
      outputs: [value('y', 'float32', ['a', 'b'])],
      nodes: [node('Relu', ['x'], ['r']), node('Reshape', ['r', 'shape'], ['y'])],
    });
    await place.write('m.onnx', model);
    const refused = await place.run('build', 'm.onnx', '--backend', 'null');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/not known at build/);
    expect(refused.stderr).toMatch(/fix: .*tsrt-bench freeze MODEL --value NAME=V/);
    const frozen = await place.runApart('freeze', 'm.onnx', '--value', 'shape=3,2', '--output', 'frozen.onnx', '--json');
    expect(JSON.parse(frozen.stdout)).toMatchObject({ output: 'frozen.onnx', inputs: ['x'], frozen: [{ name: 'shape', dtype: 'int64', dims: [2], values: [3, 2] }] });
    const built = await place.run('build', 'frozen.onnx', '--output', 'm.engine');
    expect(built.status).toBe(0);
    const verified = await place.run('verify', join(place.folder, 'm.engine'), '--against', 'frozen.onnx');
    expect({ status: verified.status, stdout: verified.stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/1 passed, 0 failed/) });
  });
});
