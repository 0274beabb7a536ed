/** Tuned builds from the command line, on SwiftShader: cache, frozen tactics, inspection, Ctrl-C. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { EngineHeader } from '../../src/engine/engine.ts';
import { type Dims, elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice } from '../helpers/swiftshader.ts';
import { type Workplace, workplace } from './cli.ts';

/** Products of different depths, one after another. */
function model(depths: readonly number[]): Uint8Array {
  const graph = newGraphBuilder('products');
  graph.input('x', { dtype: 'float32', dims: [8, depths[0]!] });
  const weights = (dims: Dims) => graph.constant(fromNumbers('float32', dims, new Float32Array(elementCount(dims)).fill(0.01)));
  const y = depths.slice(1).reduce((value, columns, i) => graph.node('MatMul', [value, weights([depths[i]!, columns])], {}), 'x');
  return exportGraph(graph.finish([y]));
}

/** A plugin whose kernel has two tiles. It imports nothing: definePlugin and defineOp are the identity. */
const SCALE = `
const scale = {
  domain: 'd', name: 'Scale', dtypes: ['float32'], attributes: {}, inputs: [{ name: 'x', dims: 'any' }], outputs: ['y'],
  infer: ({ inputs: [x] }) => [x],
  reference: ({ inputs: [x] }) => [x.values.map((value) => 2 * value)],
  kernels: [{
    dtypes: ['float32'],
    tiles: [{ block: 32 }, { block: 256 }],
    emit: ({ outputs: [y], tile }) => ({ workgroupSize: tile.block, threads: y.count, body: 'y[i] = 2.0 * x[i];' }),
  }],
};
export default { name: 'scale', version: '1.0.0', ops: [scale] };
`;

interface Built {
  readonly sha256: string;
  readonly header: EngineHeader;
}

describe.skipIf(noDevice)('tuning (skipped without SwiftShader)', { timeout: 120_000 }, () => {
  const build = async (place: Workplace, ...words: string[]): Promise<Built> => {
    const { status, stdout, stderr } = await place.runApart('build', 'model.onnx', '--backend', 'webgpu', '--device', 'swiftshader', '--json', ...words);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    return JSON.parse(stdout) as Built;
  };

  const withModel = async (depths: readonly number[] = [128, 96, 64]): Promise<Workplace> => {
    const place = await workplace();
    await place.write('model.onnx', model(depths));
    return place;
  };

  it('measures once, takes the times from the cache then, shows them, and builds the same file again from frozen tactics', async () => {
    const place = await withModel();
    const first = await build(place, '--tune', 'fast', '--timing-cache', 'times.json', '--output', 'a.engine', '--export-tactics', 'a.json');
    expect(first.header.tactics!.tuning!.measured).toBeGreaterThan(2);
    const second = await build(place, '--tune', 'fast', '--timing-cache', 'times.json', '--output', 'b.engine');
    expect(second.header.tactics!.tuning).toMatchObject({ measured: 0, reused: first.header.tactics!.tuning!.measured });
    const { stdout } = await place.run('inspect', 'a.engine', '--tactics');
    expect(stdout).toMatch(/tuned +fast, \d+ candidates measured, on a software adapter/);
    for (const { problem, tactic } of first.header.tactics!.choices) expect(stdout).toMatch(new RegExp(`${problem} .*${tactic.replaceAll('/', '\\/')} .*measured.* µs`));
    const inspected = JSON.parse((await place.run('inspect', 'a.engine', '--tactics', '--json')).stdout) as { tactics: object };
    expect(inspected.tactics).toEqual(JSON.parse(await readFile(join(place.folder, 'a.json'), 'utf8')));
    await place.write('inspected.json', JSON.stringify(inspected));
    const one = await build(place, '--frozen-tactics', 'a.json', '--output', 'd.engine');
    const two = await build(place, '--frozen-tactics', 'inspected.json', '--output', 'e.engine');
    expect(two.sha256).toBe(one.sha256);
    expect(one.header.tactics!.choices.every(({ by }) => by === 'frozen')).toBe(true);
  });

  it('keeps its times in the cache folder where no file is named', async () => {
    const place = await withModel();
    const { header } = await build(place, '--tune', 'fast', '--output', 'c.engine');
    expect(await readFile(join(place.folder, 'cache', 'timing-cache.json'), 'utf8')).toContain('"ns":');
    expect(header.tactics!.tuning!.reused).toBe(0);
  });

  it('refuses what contradicts itself or does not exist, and says what to do', async () => {
    const place = await withModel();
    await build(place, '--output', 'a.engine', '--export-tactics', 'a.json');
    await place.write('wrong.json', JSON.stringify({ 'MatMul f32 1x8x96x128': '16x16x16 2x4 /3', other: 'x' }));
    const refused = async (...words: string[]) => {
      const { status, stderr } = await place.runApart('build', 'model.onnx', '--backend', 'webgpu', '--device', 'swiftshader', '--output', 'f.engine', ...words);
      expect(status).toBe(2);
      return stderr;
    };
    expect(await refused('--frozen-tactics', 'a.json', '--tune', 'fast')).toMatch(/leave one of them out/);
    expect(await refused('--frozen-tactics', 'missing.json')).toMatch(/can't be read[\s\S]*missing\.json/);
    expect(await refused('--frozen-tactics', 'wrong.json')).toMatch(/'16x16x16 2x4 \/3' of 'MatMul f32 1x8x96x128'[\s\S]*nearest is '16x16x16 2x4/);
    expect(await refused('--tune', 'slow')).toMatch(/none, fast, full/);
    const elsewhere = await place.run('build', 'model.onnx', '--tune', 'fast', '--output', 'g.engine');
    expect([elsewhere.status, elsewhere.stderr]).toEqual([2, expect.stringMatching(/tune: no such option/)]);
  });

  it('chooses among the tiles of a plugin’s kernel as among its own', async () => {
    const place = await workplace();
    await place.write('scale.mjs', SCALE);
    const graph = newGraphBuilder('scaled');
    const op = { domain: 'd', opType: 'Scale', opset: 1, attributes: [] };
    const types = [{ dtype: 'float32', dims: [8192] }] as const;
    const x = graph.input('x', types[0]);
    await place.write('model.onnx', exportGraph(graph.finish([graph.node('Custom', [x], op, { types, name: 'scale', outputs: ['y'] })])));
    const { header } = await build(place, '--plugin', './scale.mjs', '--tune', 'fast', '--output', 'a.engine', '--export-tactics', 'a.json');
    expect(header.tactics!.tuning!.measured).toBe(2);
    const [choice] = header.tactics!.choices;
    expect(choice).toMatchObject({ problem: expect.stringMatching(/^d\.Scale /) as string, tactic: expect.stringMatching(/^block=(32|256)$/) as string, by: 'measured' });
    const { stdout } = await place.run('inspect', 'a.engine', '--tactics');
    expect(stdout).toMatch(new RegExp(`d\\.Scale .*${choice!.tactic} .*measured.* µs`));
    const other = choice!.tactic === 'block=32' ? 'block=256' : 'block=32';
    await place.write('frozen.json', (await readFile(join(place.folder, 'a.json'), 'utf8')).replace(choice!.tactic, other));
    const frozen = await build(place, '--plugin', './scale.mjs', '--frozen-tactics', 'frozen.json', '--output', 'b.engine');
    expect(frozen.header.tactics!.choices[0]).toMatchObject({ tactic: other, by: 'frozen' });
  });

  it('keeps what was measured when it is stopped', async () => {
    const place = await withModel([512, 480, 448, 416, 384, 352, 320, 288, 256]);
    let sent = false;
    const { status, stderr } = await place.start(['build', 'model.onnx', '--backend', 'webgpu', '--device', 'swiftshader', '--tune', 'fast', '--timing-cache', 'stopped.json', '--output', 'h.engine'], (text, kill) => {
      if (sent || !text.includes('tuning')) return;
      sent = true;
      kill('SIGINT');
    });
    expect(status).toBe(130);
    expect(stderr).toMatch(/the build was interrupted/);
    const again = await build(place, '--tune', 'fast', '--timing-cache', 'stopped.json', '--output', 'h.engine');
    expect(again.header.tactics!.tuning!.reused).toBeGreaterThan(0);
    expect(again.header.tactics!.tuning!.measured).toBeGreaterThan(0);
  });
});
