import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findCases } from '../../../../src/workflows/verify/cases.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';

async function tree(...files: readonly string[]): Promise<string> {
  const root = await temporaryFolder();
  for (const file of files) {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await writeFile(join(root, file), '');
  }
  return root;
}

describe('findCases', () => {
  it("finds ONNX's layout at any depth, data sets in numeric order", async () => {
    const root = await tree(
      'node/test_b/model.onnx',
      'node/test_b/test_data_set_10/input_0.pb',
      'node/test_b/test_data_set_10/output_0.pb',
      'node/test_b/test_data_set_2/input_1.pb',
      'node/test_b/test_data_set_2/output_0.pb',
      'node/test_a/model.onnx',
      'deep/er/still/net.onnx',
    );
    const cases = await findCases(root);
    expect(cases.map(({ name }) => name)).toEqual([join('deep', 'er', 'still'), join('node', 'test_a'), join('node', 'test_b')]);
    const sets = cases[2]!.dataSets;
    expect(sets.map(({ name }) => name)).toEqual(['test_data_set_2', 'test_data_set_10']);
    expect(sets[0]!.inputs).toEqual([undefined, join(root, 'node/test_b/test_data_set_2/input_1.pb')]);
  });

  it('takes .pb files beside the only model of a folder', async () => {
    const root = await tree('model.onnx', 'input_0.pb', 'output_0.pb', 'output_1.pb', 'notes.pb');
    const [found] = await findCases(root);
    expect(found!.dataSets).toEqual([
      { name: 'beside the model', inputs: [join(root, 'input_0.pb')], outputs: [join(root, 'output_0.pb'), join(root, 'output_1.pb')] },
    ]);
    expect(await findCases(join(root, 'model.onnx'))).toMatchObject([{ dataSets: [{ inputs: [expect.any(String)] }] }]);
  });

  it('does not guess to which of several models the data belongs', async () => {
    const root = await tree('zoo/a.onnx', 'zoo/b.onnx', 'zoo/output_0.pb');
    const cases = await findCases(root);
    expect(cases.map(({ name, dataSets }) => [name, dataSets.length])).toEqual([
      [join('zoo', 'a.onnx'), 0],
      [join('zoo', 'b.onnx'), 0],
    ]);
    expect(await findCases(join(root, 'zoo', 'a.onnx'))).toMatchObject([{ name: 'a.onnx', dataSets: [] }]);
  });

  it('takes inputs without outputs as no data', async () => {
    const root = await tree('model.onnx', 'input_0.pb');
    expect((await findCases(root))[0]!.dataSets).toEqual([]);
  });

  it('does not walk in circles', async () => {
    const root = await tree('a/model.onnx');
    await symlink(root, join(root, 'a', 'loop'));
    expect(await findCases(root)).toHaveLength(1);
  });

  it('says when there is nothing', async () => {
    await expect(findCases(await tree('readme.txt'))).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    await expect(findCases('/nowhere/at/all')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
  });
});
