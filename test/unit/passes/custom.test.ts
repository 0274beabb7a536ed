/** Custom ops in the passes: decomposed, fused by their expression, found by their patterns; and the engines made of them. */
import { describe, expect, it } from 'vitest';
import deformConvPlugin from '../../../plugins/deform-conv/index.ts';
import rotaryPlugin from '../../../plugins/rotary/index.ts';
import snakePlugin from '../../../plugins/snake/index.ts';
import { BACKENDS } from '../../../src/backends/built-in.ts';
import { evaluateConstants } from '../../../src/backends/onnxruntime/evaluate.ts';
import { compileModel } from '../../../src/backends/compile.ts';
import type { BuildOptions, Engine } from '../../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../../src/engine/file.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers, toNumbers, type Dims, type Tensor } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { defineNode } from '../../../src/ops/custom.ts';
import { runPasses } from '../../../src/passes/pipeline.ts';
import { defineOp, type Plugin } from '../../../src/plugin.ts';
import { createRegistry, type Registry } from '../../../src/registry.ts';
import { modelBytes as onnxBytes, node, value } from '../onnx/models.ts';

const registryOf = (...plugins: readonly Plugin[]): Registry =>
  createRegistry([{ plugin: { name: 'tsrt-bench', version: '0', backends: BACKENDS }, source: 'built-in' }, ...plugins.map((plugin) => ({ plugin, source: `/${plugin.name}`, sha256: 'aa' }))]);
const registry = registryOf(snakePlugin, rotaryPlugin, deformConvPlugin);
const [snake, rotary] = registry.ops as [Registry['ops'][number], Registry['ops'][number]];

const float = (dims: Dims) => ({ dtype: 'float32', dims }) as const;
const ramp = (dims: Dims, step = 0.1): Tensor => fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, (_, i) => Math.sin(i * step)));

/** `add(snake(x·w), 1)`: a product with a custom op and another op behind it. */
function productAndSnake(): Graph {
  const builder = newGraphBuilder('g');
  const x = builder.input('x', float([4, 8]));
  const w = builder.constant(ramp([8, 8]));
  const product = builder.node('MatMul', [x, w], {});
  const { definition, types } = defineNode(snake, new Map([['alpha', 2]]), [float([4, 8])]);
  const attributes = [{ name: 'alpha', kind: 'float', value: 2 }] as const;
  const activated = builder.node('Custom', [product], { domain: 'tsrt', opType: 'Snake', opset: 1, attributes, definition }, { types });
  return builder.finish([builder.node('Add', [activated, builder.constant(fromNumbers('float32', [], [1]))], {}, { outputs: ['y'] })]);
}

/** LLaMA's rotate_half, as exporters write it. */
function rotateHalf(upperStart = 4): Graph {
  const builder = newGraphBuilder('rope');
  const x = builder.input('x', float([1, 2, 3, 8]));
  const [cosines, sines] = [builder.input('cos', float([1, 1, 3, 8])), builder.input('sin', float([1, 1, 3, 8]))];
  const int = (value: number) => builder.constant(fromNumbers('int64', [1], [value]));
  const part = (from: number, to: number) => builder.node('Slice', [x, int(from), int(to), int(3), int(1)], {});
  const upper = builder.node('Neg', [part(upperStart, 2 ** 31 - 1)], {});
  const rotated = builder.node('Concat', [upper, part(0, upperStart)], { axis: 3 });
  return builder.finish([builder.node('Add', [builder.node('Mul', [x, cosines], {}), builder.node('Mul', [rotated, sines], {})], {}, { outputs: ['y'] })]);
}

const passes = (graph: Graph, target: 'onnx' | 'webgpu', customOps = registry.ops) => runPasses(graph, { target, fusion: 'on', disabled: [], fold: evaluateConstants, verify: true, customOps });
const opsOf = ({ nodes }: Graph): readonly string[] => nodes.map((node) => (node.op === 'Custom' ? node.attrs.opType : node.op));

const OPTIONS: BuildOptions = { backend: 'onnxruntime', precision: 'fp32', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {} };

function compile(graph: Graph, options: Partial<BuildOptions> = {}, from = registry): Promise<Engine> {
  const all = { ...OPTIONS, ...options };
  return compileModel({ modelBytes: exportGraph(graph), modelName: graph.name, folder: undefined, options: all, backend: from.backend(all.backend), customOps: from.ops, rebatch: false, context: { signal: undefined, onProgress: undefined } });
}

describe('custom ops in the passes', () => {
  it('become standard ops for onnx, by their expression too', async () => {
    const { graph, reports } = await passes(productAndSnake(), 'onnx');
    expect(opsOf(graph)).toEqual(['MatMul', 'Mul', 'Sin', 'Mul', 'Mul', 'Add', 'Add']);
    expect(reports.find(({ pass }) => pass === 'decompose-custom')?.rewrites).toEqual({ 'tsrt.Snake': 1 });
    // Profiles and diffs join on origins: all of it is the one node's work.
    expect(graph.nodes.slice(1, 6).every(({ origins }) => origins[0] === 'Custom_1')).toBe(true);
  });

  it('fuse into the product before them by their expression', async () => {
    expect(opsOf((await passes(productAndSnake(), 'webgpu')).graph)).toEqual(['FusedMatMul']);
  });

  it('are found by their pattern where they have a kernel, and only where it is theirs', async () => {
    const found = await passes(rotateHalf(), 'webgpu');
    expect(opsOf(found.graph)).toEqual(['Rotary']);
    expect(found.reports.find(({ pass }) => pass === 'custom-patterns')?.rewrites).toEqual({ 'tsrt.Rotary: rotate-half': 1 });
    expect(opsOf((await passes(rotateHalf(3), 'webgpu')).graph)).not.toContain('Rotary');
    expect(opsOf((await passes(rotateHalf(), 'onnx')).graph)).not.toContain('Rotary');
    const without = [{ ...rotary, op: { ...rotary.op, kernels: [] } }];
    expect(opsOf((await passes(rotateHalf(), 'webgpu', without)).graph)).not.toContain('Rotary');
  });
});

describe('engines with custom ops', () => {
  it('name the plugins they need, and are refused without them, or with other code', async () => {
    const engine = await deserializeEngine(await serializeEngine(await compile(productAndSnake())));
    expect(engine.header.plugins).toEqual([{ name: 'snake', version: '1.0.0', sha256: 'aa' }]);
    const load = (from: Registry) => from.backend('onnxruntime').load(engine, { device: undefined, signal: undefined });
    const session = await load(registry);
    const x = ramp([4, 8]);
    const { y } = await session.run({ x });
    await session.dispose();
    const w = toNumbers(ramp([8, 8]));
    const expected = Array.from({ length: 32 }, (_, i) => {
      const sum = w.filter((_, k) => k % 8 === i % 8).reduce((total, weight, k) => total + weight * toNumbers(x)[Math.floor(i / 8) * 8 + k]!, 0);
      return sum + Math.sin(2 * sum) ** 2 / 2 + 1;
    });
    for (const [i, value] of toNumbers(y!).entries()) expect(value).toBeCloseTo(expected[i]!, 5);

    await expect(load(registryOf())).rejects.toMatchObject({ code: 'ENGINE_INCOMPATIBLE', details: ['plugin snake 1.0.0: not loaded'] });
    await expect(load(registryOf({ ...snakePlugin, version: '1.1.0' }))).rejects.toMatchObject({ details: ['plugin snake: engine 1.0.0, here 1.1.0'] });
    const changed = createRegistry([{ plugin: { name: 'tsrt-bench', version: '0', backends: BACKENDS }, source: 'built-in' }, { plugin: snakePlugin, source: '/x', sha256: 'bb' }]);
    await expect(load(changed)).rejects.toThrow(/needs a plugin that it was built with/);
  });

  it('name the plugins whose pattern put an op there', async () => {
    const engine = await compile(rotateHalf(), { backend: 'webgpu', backendOptions: { portable: true } });
    expect(engine.header.plugins?.map(({ name }) => name)).toEqual(['rotary']);
    expect(engine.header.layers.map(({ kind, tactic }) => `${kind} ${tactic}`)).toEqual(['tsrt.Rotary block=64']);
    const plain = await compile(rotateHalf(3), { backend: 'webgpu', backendOptions: { portable: true } });
    expect(plain.header.plugins).toBeUndefined();
  });

  it('an unknown op is refused with the way out', async () => {
    for (const backend of ['onnxruntime', 'webgpu']) {
      await expect(compile(productAndSnake(), { backend }, registryOf())).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', fix: expect.stringMatching(/--plugin PATH.*plugin new NAME --op tsrt\.Snake/) as string });
    }
  });

  it('an op without a decomposition is refused by onnxruntime, in the name of its plugin', async () => {
    const { expression: _, ...bare } = snake.op;
    await expect(compile(productAndSnake(), {}, registryOf({ ...snakePlugin, ops: [bare] }))).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      details: ["tsrt.Snake 'Custom_1': the plugin snake gives it no decomposition into standard ops; --backend webgpu may run it"],
    });
  });

  it("an error in an op's code names the plugin", async () => {
    const broken = { ...snake.op, infer: () => { throw new Error('forgot something'); } };
    await expect(compile(productAndSnake(), {}, registryOf({ ...snakePlugin, ops: [broken] }))).rejects.toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'snake', message: 'infer of tsrt.Snake threw: forgot something' });
  });

  it('have a reference that joins the plugin’s own with onnxruntime', async () => {
    const reference = await registry.backend('onnxruntime').reference!({ bytes: exportGraph(productAndSnake()), folder: undefined });
    const outputs = await reference.run(new Map([['x', { kind: 'tensor', tensor: ramp([4, 8]) }]]));
    await reference.dispose();
    const session = await registry.backend('onnxruntime').load(await compile(productAndSnake()), { device: undefined, signal: undefined });
    const { y } = await session.run({ x: ramp([4, 8]) });
    await session.dispose();
    const wanted = outputs.get('y');
    if (wanted?.kind !== 'tensor') throw new Error('no tensor');
    for (const [i, value] of toNumbers(wanted.tensor).entries()) expect(toNumbers(y!)[i]).toBeCloseTo(value, 5);
  });
});

describe('a custom op of which a model wants fewer outputs', () => {
  it('is refused by its kernel, which writes them all', async () => {
    const twice = defineOp({
      domain: 'own', name: 'Twice', dtypes: ['float32'], attributes: {}, inputs: [{ name: 'x', dims: 'any' }], outputs: ['y', 'z'],
      infer: ({ inputs: [x] }) => [x!, x!],
      reference: ({ inputs: [x] }) => [x!.values, x!.values],
      kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x!.count, body: 'y[i] = x[i]; z[i] = x[i];' }) }],
    });
    const modelBytes = onnxBytes({ inputs: [value('x', 'float32', [4])], outputs: [value('y', 'float32', [4])], nodes: [node('Twice', ['x'], ['y'], {}, { domain: 'own' })], domains: { own: 1 } });
    const from = registryOf({ name: 'p', version: '1', ops: [twice] });
    const building = compileModel({ modelBytes, modelName: 'm', folder: undefined, options: { ...OPTIONS, backend: 'webgpu' }, backend: from.backend('webgpu'), customOps: from.ops, context: { signal: undefined, onProgress: undefined } });
    await expect(building).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringContaining('an output that nobody uses is left out')] });
  });
});
