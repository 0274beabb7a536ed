/**
 * What a step of a loop costs beside its kernels: a decoder's cache on the device (`startLoop`), and through the host.
 *
 *     npm run build && node bench/loop.mjs decode.engine --seconds 5
 *     node bench/loop.mjs decode.engine --carry past_key_values=present --device swiftshader
 *
 * --carry IN=OUT: an input whose name has IN in it comes from the output whose name has OUT in its place. All other inputs are seeded. Both ways
 * take turns, ten steps each, so that a changing clock falls on both. Medians, in ms: the whole step; from its beginning until the first submit, and
 * the processor's time in that one, for both of which the device waits; the number of submits and its time in them all; from the last one until the answer; and the
 * greatest element of the first output that is not carried, read in place (`typedView`), as who samples a token would look for it. Last stands what a
 * request through the host takes the device by itself, copies of what it answers among it, where it has a clock.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { startLoop } from '../dist/src/backends/loop.js';
import { chooseDevice } from '../dist/src/backends/webgpu/devices.js';
import { createSession } from '../dist/src/backends/webgpu/session.js';
import { readEngine } from '../dist/src/engine/read.js';
import { typedView } from '../dist/src/ir/tensor.js';
import { seededInputs } from '../dist/src/measure/inputs.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { carry: { type: 'string', default: 'past_key_values=present' }, seconds: { type: 'string', default: '5' }, device: { type: 'string' } },
});
const [file] = positionals;
if (!file) throw new Error('which engine?');
const open = await chooseDevice({ wanted: flags.device, unchecked: true });
const session = await createSession(await readEngine(file), open);
const [into, from] = flags.carry.split('=');
const outputs = new Set(session.outputs.map(({ name }) => name));
const carried = Object.fromEntries(session.inputs.map(({ name }) => [name, name.replace(into, from)]).filter(([name, output]) => name.includes(into) && outputs.has(output)));
if (Object.keys(carried).length === 0) throw new Error(`no input is carried by ${flags.carry}: inputs ${session.inputs.map(({ name }) => name).join(', ')}; outputs ${[...outputs].join(', ')}`);
const all = seededInputs(session.inputs, 1);
const split = (held) => Object.fromEntries(Object.entries(all).filter(([name]) => Object.hasOwn(carried, name) === held));
const given = split(false);

const submits = [];
const { queue } = open.device;
const submit = queue.submit.bind(queue);
Object.defineProperty(queue, 'submit', {
  value: (commands) => {
    const start = performance.now();
    submit(commands);
    submits.push({ start, end: performance.now() });
  },
});

function greatest(values) {
  let at = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[at]) at = i;
  return at;
}

async function through(step) {
  submits.length = 0;
  const start = performance.now();
  const answer = await step();
  const end = performance.now();
  const [first, last] = [submits[0], submits.at(-1)];
  const read = Object.entries(answer).find(([name]) => !Object.values(carried).includes(name));
  if (read) greatest(typedView(read[1]));
  return {
    whole: end - start,
    'until the first submit': first.start - start,
    'first submit': first.end - first.start,
    submits: submits.length,
    'all of them': submits.reduce((sum, each) => sum + each.end - each.start, 0),
    'until the answer': end - last.end,
    'greatest element': performance.now() - end,
  };
}

const loop = await startLoop(session, carried, split(true));
let state = split(true);
const ways = {
  'on the device': () => loop.step(given),
  'through the host': async () => {
    const answer = await session.run({ ...given, ...state });
    state = Object.fromEntries(Object.entries(carried).map(([input, output]) => [input, answer[output]]));
    return answer;
  },
};
const samples = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
const takeTurns = async (seconds, keep) => {
  for (const end = performance.now() + seconds * 1000; performance.now() < end;) {
    for (const [way, step] of Object.entries(ways)) {
      // The first step of a turn finds commands that were encoded for it long ago.
      for (let i = 0; i <= 10; i++) {
        const sample = await through(step);
        if (keep && i > 0) samples[way].push(sample);
      }
    }
  }
};
await takeTurns(1, false);
await takeTurns(Number(flags.seconds), true);

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
process.stdout.write(`${open.info.description}: ${Object.keys(carried).length} values carried\n`);
for (const [way, steps] of Object.entries(samples)) {
  const parts = Object.keys(steps[0]).map((part) => `${part} ${median(steps.map((sample) => sample[part])).toFixed(part === 'submits' ? 0 : 3)}`);
  process.stdout.write(`${way}, ${steps.length} steps: ${parts.join(', ')}\n`);
}
const deviceNs = await session.deviceTime?.();
if (deviceNs !== undefined) process.stdout.write(`a request through the host, by the device's clock: ${(deviceNs / 1e6).toFixed(3)}\n`);
await loop.dispose();
await session.dispose();
open.destroy();
