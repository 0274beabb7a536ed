/** SwiftShader as a device that a user names, without the switch in the environment that the other tests use. */
import { describe, expect, it, vi } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { chooseDevice } from '../../src/backends/webgpu/devices.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice } from './helpers.ts';

delete process.env['TSRT_BENCH_SWIFTSHADER'];

function compile(device: string | undefined, portable = false) {
  const graph = newGraphBuilder('small');
  graph.input('x', { dtype: 'float32', dims: [4] });
  return compileModel({
    modelBytes: exportGraph(graph.finish([graph.node('Relu', ['x'], {}, { outputs: ['y'] })])),
    modelName: 'small',
    folder: undefined,
    options: { backend: 'webgpu', precision: 'fp32', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: { portable } },
    backend: webgpuBackend,
    context: { device, signal: undefined, onProgress: undefined },
  });
}

describe.skipIf(noDevice)('SwiftShader by name (skipped where it is not installed)', () => {
  it.each(['swiftshader', 'SwiftShader driver'])('%s is probed alone', async (name) => {
    expect(await webgpuBackend.probe(name)).toMatchObject({ status: 'available', devices: [{ slug: 'swiftshader', kind: 'cpu' }] });
  });

  it('is what an engine is built for and bound to', async () => {
    const { header } = await compile('swiftshader');
    expect(header.requires).toMatchObject({ architecture: 'swiftshader' });
    expect(header.notices).toEqual([]);
    const session = await webgpuBackend.load(await compile('swiftshader'), { device: 'swiftshader', signal: undefined });
    expect(toNumbers((await session.run({ x: fromNumbers('float32', [4], [-1, 2, -3, 4]) }))['y']!)).toEqual([0, 2, 0, 4]);
    await session.dispose();
  });

  it('refuses a name that fits nothing, for a build too, and lists what there is', async () => {
    for (const action of [() => webgpuBackend.probe('no such device'), () => compile('no such device')]) {
      await expect(action()).rejects.toMatchObject({ code: 'USAGE', fix: expect.stringContaining('swiftshader') as string });
    }
  });

  it('is used again by the next holder, never by two at once, and not where it was lost', async () => {
    const choice = { wanted: 'swiftshader', unchecked: true };
    const [first, second] = [await chooseDevice(choice), await chooseDevice(choice)];
    expect(second.device).not.toBe(first.device);
    first.destroy();
    first.destroy();
    const next = await vi.waitFor(async () => {
      const open = await chooseDevice(choice);
      if (open.device !== first.device) open.device.destroy();
      expect(open.device).toBe(first.device);
      return open;
    });
    expect((await chooseDevice(choice)).device).not.toBe(first.device);
    next.device.destroy();
    await next.device.lost;
    next.destroy();
    await second.device.queue.onSubmittedWorkDone();
    expect((await chooseDevice(choice)).device).not.toBe(first.device);
  });

  it('gives its workers an environment, and no other device one', async () => {
    expect(await webgpuBackend.workerEnvironment!('swiftshader')).toHaveProperty('VK_ICD_FILENAMES');
    expect(await webgpuBackend.workerEnvironment!('nvidia-h200')).toEqual({});
    expect(await webgpuBackend.workerEnvironment!()).toEqual({});
  });
});
