/**
 * The target table, in one command that ends in time: ResNet-50 beside PyTorch (torch.compile included) and onnxruntime's WebGPU provider, then
 * MobileNetV2, BERT-base and ViT-B/16 beside PyTorch, on the same card in the same runs.
 *
 *     npm run build && node bench/targets.mjs --minutes 9 --model resnet50.onnx --dataset photographs --results results
 *     node bench/targets.mjs --only resnet50-h200 --timing-cache timings.json -- --batch 1
 *
 * Each step is `tsrt-bench run suites/NAME/targets.yaml --plugin pytorch`; --model and --dataset are ResNet-50's, the other networks have seeded
 * weights. What follows `--` goes to every run. At the end of the time the step under way gets what Ctrl-C sends: it keeps what is finished, and
 * every record is on disk as its case ends. --tune-budget bounds the tuning of each engine (default 25s); times that were measured are kept in
 * --timing-cache, so that a second run has no tuning left to do. --limit bounds the inputs of each accuracy run (default 32): all variants on hundreds
 * of photographs take minutes of their own. Ends with a failure where a step failed by itself.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '9' },
    only: { type: 'string' },
    model: { type: 'string' },
    dataset: { type: 'string' },
    results: { type: 'string' },
    plugin: { type: 'string', default: 'pytorch' },
    'timing-cache': { type: 'string' },
    'tune-budget': { type: 'string', default: '25s' },
    limit: { type: 'string', default: '32' },
  },
});
const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const own = (name) => [flags.model && ['--model', flags.model], flags.dataset && ['--dataset', flags.dataset]].filter((pair) => pair && name === 'resnet50-h200').flat();
const STEPS = [
  { name: 'resnet50-h200', args: own('resnet50-h200') },
  { name: 'mobilenetv2-h200', args: [] },
  { name: 'bert-base-h200', args: [] },
  { name: 'vit-b16-h200', args: [] },
];

/** Time for a run to write what it has. */
const GRACE_MS = 15_000;
const started = performance.now();
const deadline = started + Number(flags.minutes) * 60_000 - GRACE_MS;
const say = (line) => process.stdout.write(`${line}\n`);

/** Ends with how the run ended: its exit status, or 'stopped' at the deadline. */
function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path('bin/run.js'), 'run', ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
    let stopped = false;
    const timers = [
      setTimeout(() => {
        stopped = true;
        child.kill('SIGINT');
      }, Math.max(0, deadline - performance.now())),
      setTimeout(() => child.kill('SIGKILL'), Math.max(0, deadline - performance.now()) + GRACE_MS),
    ];
    child.on('error', reject);
    child.on('close', (code) => {
      for (const timer of timers) clearTimeout(timer);
      resolve(stopped ? 'stopped' : code);
    });
  });
}

const wanted = flags.only?.split(',');
let failed = false;
const summary = [];
for (const { name, args } of STEPS) {
  if (wanted && !wanted.includes(name)) continue;
  if (performance.now() >= deadline) {
    summary.push(`${name}: left out, the time is up`);
    continue;
  }
  const before = performance.now();
  say(`\n== ${name}`);
  const common = ['--plugin', flags.plugin === 'pytorch' ? path('dist/plugins/pytorch/index.js') : flags.plugin, '--tune-budget', flags['tune-budget'], '--limit', flags.limit, '--quiet'];
  const places = [...(flags.results ? ['--results', flags.results] : []), ...(flags['timing-cache'] ? ['--timing-cache', flags['timing-cache']] : [])];
  const ended = await run([path(`suites/${name}/targets.yaml`), ...common, ...places, ...args, ...positionals]);
  summary.push(`${name}: ${ended === 'stopped' ? 'stopped at the end of the time' : `ended with ${ended}`}, ${((performance.now() - before) / 1000).toFixed(0)} s`);
  failed ||= ended !== 'stopped' && ended !== 0;
}
say(`\n${summary.join('\n')}\n${((performance.now() - started) / 1000).toFixed(0)} s in all`);
process.exitCode = failed ? 1 : 0;
