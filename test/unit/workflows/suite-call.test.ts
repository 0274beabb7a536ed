/** What a hint calls a suite: something that works when it is pasted. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { suiteCall } from '../../../src/workflows/suite-call.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

describe('suiteCall', () => {
  it('is what was asked for, as a shell takes it', async () => {
    expect(await suiteCall('mine', './a folder/mine.yaml')).toBe("'./a folder/mine.yaml'");
    expect(await suiteCall('mine', "it's.onnx")).toBe("'it'\\''s.onnx'");
    expect(await suiteCall('smoke', 'suites/smoke')).toBe('suites/smoke');
  });

  it('is the name of a record where that finds the suite or the model, and a path to be put in where not', async () => {
    const cwd = await temporaryFolder();
    expect(await suiteCall('smoke', undefined, { cwd })).toBe('smoke');
    expect(await suiteCall('net', undefined, { cwd })).toBe('path/to/net');
    await writeFile(join(cwd, 'net.onnx'), '');
    expect(await suiteCall('net', undefined, { cwd })).toBe('net');
    // The name leads to a folder whose suite is called otherwise.
    await mkdir(join(cwd, 'other'));
    await writeFile(join(cwd, 'other', 'suite.yaml'), 'name: x');
    expect(await suiteCall('other', undefined, { cwd })).toBe('path/to/other');
  });
});
