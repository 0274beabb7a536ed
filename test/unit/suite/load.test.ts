import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { listSuites, loadSuite, namesModel } from '../../../src/suite/load.ts';
import { minimalSuite, temporaryFolder } from './helpers.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

async function writeSuite(folder: string, file: string, content: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, file), content);
  return join(folder, file);
}

describe('namesModel', () => {
  it('takes for a model what ends in .onnx, there or not, and files that are no suite by their ending', async () => {
    const folder = await temporaryFolder();
    await writeSuite(folder, 'suite.yaml', '');
    await writeSuite(folder, 'net.pb', '');
    const answers = await Promise.all(['absent.onnx', 'net.pb', 'absent.pb', 'suite.yaml', '.'].map((name) => namesModel(join(folder, name))));
    expect(answers).toEqual([true, true, false, false, false]);
    expect(await namesModel('resnet50')).toBe(false);
  });
});

describe('loadSuite', () => {
  it.each(['smoke', 'resnet50', 'mobilenetv2', 'bert-base', 'vit-b16'])('reads the shipped suite %s', async (name) => {
    const suite = await loadSuite(name, { cwd: root });
    expect(suite.name).toBe(name);
    expect(suite.model.builder?.name).toBe(name);
  });

  it.each(['resnet50', 'mobilenetv2', 'bert-base', 'vit-b16'])('reads %s beside PyTorch', async (name) => {
    const suite = await loadSuite(`${name}-h200`, { cwd: root });
    expect(suite.name).toBe(`${name}-h200`);
    expect(suite.model.builder?.name).toBe(name);
    expect(suite.variants.flatMap(({ backend }) => backend)).toEqual(['webgpu', 'onnxruntime', 'pytorch', 'pytorch']);
  });

  it('reaches a shipped suite by name and as suites/NAME from any folder', async () => {
    const cwd = await temporaryFolder();
    expect((await loadSuite('smoke', { cwd })).file).toBe(join(root, 'suites/smoke/suite.yaml'));
    expect((await loadSuite('suites/smoke', { cwd })).name).toBe('smoke');
  });

  it('finds the suite that a file gives its name, as the records of its runs have it', async () => {
    const cwd = await temporaryFolder();
    expect((await loadSuite('resnet50-h200-targets', { cwd })).file).toBe(join(root, 'suites/resnet50-h200/targets.yaml'));
    const folder = join(cwd, 'suites/nets');
    const own = await writeSuite(folder, 'suite.json', JSON.stringify(minimalSuite({ name: 'mine' })));
    const nightly = await writeSuite(folder, 'nightly.json', JSON.stringify(minimalSuite({ name: 'mine-nightly' })));
    await writeSuite(folder, 'broken.yaml', 'name: [');
    await writeSuite(folder, 'list.json', '["mine-nightly"]');
    expect((await loadSuite('mine', { cwd })).file).toBe(own);
    expect((await loadSuite('mine-nightly', { cwd })).file).toBe(nightly);
    expect((await loadSuite('suites/mine-nightly', { cwd })).file).toBe(nightly);
    await expect(loadSuite('other/mine-nightly', { cwd })).rejects.toMatchObject({ code: 'SUITE_NOT_FOUND' });
  });

  it('prefers ./suites to the shipped ones', async () => {
    const cwd = await temporaryFolder();
    const file = await writeSuite(join(cwd, 'suites/smoke'), 'suite.json', JSON.stringify(minimalSuite({ name: 'mine' })));
    expect((await loadSuite('smoke', { cwd })).file).toBe(file);
    expect(await listSuites({ cwd })).toContainEqual({ name: 'smoke', folder: join(cwd, 'suites/smoke') });
  });

  it.each([
    ['suite.yaml', 'name: x\n'],
    ['suite.yml', 'name: x\n'],
    ['suite.json', '{"name": "x"}'],
    ['suite.mjs', 'export default { name: "x" };'],
  ])('reads %s and names it in mistakes', async (name, content) => {
    const cwd = await temporaryFolder();
    const file = await writeSuite(cwd, name, content);
    await expect(loadSuite('.', { cwd })).rejects.toMatchObject({ code: 'SUITE_INVALID', place: file });
    await expect(loadSuite(file, { cwd })).rejects.toMatchObject({ code: 'SUITE_INVALID', place: file });
  });

  it.each(['suite.yaml', 'suite.json'])('takes a byte order mark before %s', async (name) => {
    const cwd = await temporaryFolder();
    await writeSuite(cwd, name, `\uFEFF${JSON.stringify(minimalSuite({ name: 'marked' }))}`);
    expect((await loadSuite(cwd, { cwd })).name).toBe('marked');
  });

  it('says where the syntax is wrong', async () => {
    const cwd = await temporaryFolder();
    await writeSuite(cwd, 'suite.yaml', 'name: x\n  bad: [1\n');
    await expect(loadSuite(cwd, { cwd })).rejects.toMatchObject({ code: 'SUITE_INVALID', message: expect.stringMatching(/can't be read: .*\(2:/) });
  });

  it('lists the known suites and the nearest for an unknown name', async () => {
    const cwd = await temporaryFolder();
    await expect(loadSuite('resnet51', { cwd })).rejects.toMatchObject({
      code: 'SUITE_NOT_FOUND',
      fix: "did you mean 'resnet50'?",
      details: expect.arrayContaining([expect.stringMatching(/^bert-base: /)]),
    });
    await expect(loadSuite('quite-another-thing', { cwd })).rejects.toMatchObject({ code: 'SUITE_NOT_FOUND', fix: expect.stringContaining('resnet50') });
    await writeFile(join(cwd, 'net.engine'), '');
    await expect(loadSuite('net.engine', { cwd })).rejects.toMatchObject({ message: 'net.engine is an engine, not a suite', fix: expect.stringContaining('--engine net.engine') });
    await expect(loadSuite('./elsewhere/smoke', { cwd })).rejects.toMatchObject({ code: 'SUITE_NOT_FOUND' });
    await expect(loadSuite('.', { cwd })).rejects.toMatchObject({ message: expect.stringContaining('holds no suite file') });
  });

  it('makes the suite of an ONNX file, named after it or its folder', async () => {
    const cwd = await temporaryFolder();
    await mkdir(join(cwd, 'Whisper tiny'));
    await expect(loadSuite('gone.onnx', { cwd })).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', message: 'there is no file gone.onnx' });
    const named: readonly (readonly [string, string])[] = [['ResNet-50 (v1.5).onnx', 'resnet-50-v1.5-'], ['Whisper tiny/model.onnx', 'whisper-tiny'], ['_.onnx', 'model']];
    for (const [file, name] of named) {
      await writeFile(join(cwd, file), '');
      const suite = await loadSuite(file, { cwd });
      expect(suite).toMatchObject({ name, file: join(cwd, file), folder: dirname(join(cwd, file)), inputs: [], task: { kind: 'raw' }, batches: [1] });
      expect(resolve(suite.folder, suite.model.file!)).toBe(join(cwd, file));
      expect((await loadSuite(file.replace(/(\/model)?\.onnx$/, ''), { cwd })).file).toBe(suite.file);
      expect(suite.variants.flatMap(({ backend, precision }) => backend.flatMap((one) => precision.map((each) => `${one} ${each}`)))).toEqual(['onnxruntime fp32', 'webgpu fp32', 'webgpu fp16']);
    }
  });
});
