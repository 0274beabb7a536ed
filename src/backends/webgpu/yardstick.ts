/**
 * A fixed workload of the device's own: chains of multiply-adds in registers. Its time moves only when the device's clock or
 * its load does, whatever is measured beside it. By the device's own clock where it has one: what the host takes to submit is no yardstick of
 * the device.
 */
import type { DeviceYardstick } from '../backend.ts';
import { USAGE } from './resources.ts';
import { spansOf } from './timestamps.ts';

/** Few threads and long chains: what counts is the latency of arithmetic, which is the clock's, not the number of units. */
const THREADS = 1024;
const GROUP = 64;
const STEPS = 4096;
/** Dispatches per reading: enough that submitting them weighs little. */
const DISPATCHES = 8;

const WORKLOAD = `
@group(0) @binding(0) var<storage, read_write> out: array<f32, ${THREADS}>;
@compute @workgroup_size(${GROUP})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var a = vec4<f32>(f32(id.x));
  for (var step = 0u; step < ${STEPS}u; step += 1u) {
    a = a * 0.999 + vec4<f32>(0.5, 0.25, 0.125, 1.0);
  }
  out[id.x] = a.x + a.y + a.z + a.w;
}
`;

export interface Yardstick {
  /** Runs the workload warmed up; time of one dispatch. */
  measure(): Promise<DeviceYardstick>;
  destroy(): void;
}

export async function createYardstick(device: GPUDevice): Promise<Yardstick> {
  const pipeline = await device.createComputePipelineAsync({
    label: 'yardstick',
    layout: 'auto',
    compute: { module: device.createShaderModule({ code: WORKLOAD }), entryPoint: 'main' },
  });
  const buffer = device.createBuffer({ label: 'yardstick', size: THREADS * 4, usage: USAGE.storage });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  const encode = (encoder: GPUCommandEncoder, timestampWrites?: GPUComputePassTimestampWrites): void => {
    const pass = encoder.beginComputePass(timestampWrites && { timestampWrites });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < DISPATCHES; i++) pass.dispatchWorkgroups(THREADS / GROUP);
    pass.end();
  };
  const byHost = async (): Promise<number> => {
    const start = performance.now();
    const encoder = device.createCommandEncoder();
    encode(encoder);
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    return (performance.now() - start) * 1e6;
  };
  const byDevice = async (): Promise<number> => {
    const [span] = await spansOf(device, 1, (encoder, writesOf) => encode(encoder, writesOf(0, true, true)));
    return Number(span!.end - span!.begin);
  };
  const [clock, once] = device.features.has('timestamp-query') ? (['device', byDevice] as const) : (['host', byHost] as const);
  return {
    async measure() {
      await once();
      return { durationNs: (await once()) / DISPATCHES, clock };
    },
    destroy: () => buffer.destroy(),
  };
}
