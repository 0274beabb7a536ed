/**
 * A backend on onnxruntime that can waste time: after each execution it spins for a share of what that took. The share stands
 * in waste.mjs beside this file, so that a git revision and the working tree can differ by it and by nothing else. Written
 * against the public API alone, as a user's plugin is.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { checkInputs, cpuDevice, definePlugin, engineFrom, exportModel } from 'tsrt-bench';
import { WASTE } from './waste.mjs';

const NAME = 'wasteful';

async function load({ header, parts }) {
  const session = await InferenceSession.create(parts.get('model'), {
    graphOptimizationLevel: header.options.fusion === 'on' ? 'all' : 'disabled',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const toFeeds = (inputs) => {
    const tensors = checkInputs(header.inputs, inputs);
    return Object.fromEntries(header.inputs.map(({ name, dtype, dims }, i) => [name, new Tensor(dtype, floatsOf(tensors[i].data), dims)]));
  };
  const execute = (feeds) => wasting(() => session.run(feeds));
  const toOutputs = (results) =>
    Object.fromEntries(header.outputs.map(({ name, dtype }) => [name, { dtype, dims: results[name].dims, data: bytesOf(results[name].data) }]));
  return {
    header,
    device: cpuDevice(),
    inputs: header.inputs,
    outputs: header.outputs,
    maxInFlight: 1,
    memory: header.memory,
    observeMemory: () => ({ deviceBytes: undefined }),
    run: (inputs) => wasting(async () => toOutputs(await session.run(toFeeds(inputs)))),
    async prepare(inputs) {
      const feeds = toFeeds(inputs);
      let results;
      return {
        async execute(count) {
          for (let i = 0; i < count; i++) results = await execute(feeds);
        },
        download: async () => toOutputs((results ??= await execute(feeds))),
        dispose: async () => {},
      };
    },
    dispose: () => session.release(),
  };
}

/** Does the work, then spins for a share of the time that it took. */
async function wasting(work) {
  const startMs = performance.now();
  const result = await work();
  const endMs = performance.now();
  const untilMs = endMs + WASTE * (endMs - startMs);
  while (performance.now() < untilMs);
  return result;
}

/** Where they lie, if numbers may; a copy for each execution would be work for the garbage collector, at times of its own. */
function floatsOf(bytes) {
  const { buffer, byteOffset, byteLength } = bytes;
  return byteOffset % 4 === 0 ? new Float32Array(buffer, byteOffset, byteLength / 4) : new Float32Array(bytes.slice().buffer);
}

function bytesOf({ buffer, byteOffset, byteLength }) {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

export default definePlugin({
  name: NAME,
  version: '1.0.0',
  backends: [
    {
      name: NAME,
      description: 'onnxruntime, and some time wasted after each execution',
      probe: async () => ({ status: 'available', version: '1.0.0', devices: [cpuDevice()] }),
      supports: ({ options: { precision }, model }) => (precision === 'fp32' ? [] : [{ node: model.name, op: 'precision', reason: 'fp32 only' }]),
      build: async (input) => engineFrom(NAME, input, { parts: new Map([['model', exportModel(input)]]) }),
      load,
    },
  ],
});
