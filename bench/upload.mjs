/**
 * What it takes to bring an input to the device, by its size: where a request with transfers spends its time before the first kernel.
 *
 *     npm run build && node bench/upload.mjs --megabytes 0.6,4.8,19.3 --repeat 20
 *
 * Medians in ms, and GB/s: a copy within the host's own memory for comparison; the copy into mapped memory that stays (`upload.ts`), the device's
 * copy from it, until it is seen to be done, and mapping it again; and `writeBuffer` of the same bytes, the call and until it is done.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { USAGE } from '../dist/src/backends/webgpu/resources.js';

const { values: flags } = parseArgs({
  options: { megabytes: { type: 'string', default: '0.6,4.8,19.3,77' }, repeat: { type: 'string', default: '20' }, device: { type: 'string' } },
});
const open = await chooseDevice({ wanted: flags.device, unchecked: true });
const { device } = open;

const done = async () => {
  open.submitted?.();
  await device.queue.onSubmittedWorkDone();
  open.answered?.();
};

/** Runs the steps one after the other, `repeat` times; the median of each in ms. The first round makes what is made lazily. */
async function medians(steps) {
  const samples = Object.keys(steps).map(() => []);
  for (let round = 0; round <= Number(flags.repeat); round++) {
    for (const [i, step] of Object.values(steps).entries()) {
      const start = performance.now();
      await step();
      if (round > 0) samples[i].push(performance.now() - start);
    }
  }
  return samples.map((taken) => taken.toSorted((a, b) => a - b)[Math.floor(taken.length / 2)]);
}

const print = (cells) => process.stdout.write(`${cells.map((cell) => String(cell).padEnd(22)).join('').trimEnd()}\n`);

print([open.info.description]);
for (const megabytes of flags.megabytes.split(',').map(Number)) {
  const bytes = Math.ceil((megabytes * 1e6) / 4) * 4;
  const data = new Uint8Array(bytes).map((_, i) => i % 251);
  const other = new Uint8Array(bytes);
  const target = device.createBuffer({ size: bytes, usage: USAGE.storage | USAGE.copyDst });
  const staging = device.createBuffer({ size: bytes, usage: USAGE.mapWrite | USAGE.copySrc, mappedAtCreation: true });
  const steps = {
    'in the host': () => other.set(data),
    'into mapped memory': () => new Uint8Array(staging.getMappedRange()).set(data),
    'unmap, device copies': async () => {
      staging.unmap();
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(staging, 0, target, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await done();
    },
    'map again': () => staging.mapAsync(USAGE.mapWrite),
    writeBuffer: () => device.queue.writeBuffer(target, 0, data),
    '… until done': done,
  };
  const times = await medians(steps);
  print([`${megabytes} MB`]);
  for (const [i, name] of Object.keys(steps).entries()) print(['', name, `${times[i].toFixed(3)} ms`, `${(bytes / times[i] / 1e6).toFixed(1)} GB/s`]);
  for (const buffer of [target, staging]) buffer.destroy();
}
device.destroy();
