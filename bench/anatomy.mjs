/**
 * Where an engine's time goes, in one go: for every precision and batch the layers by time, their sum against the wall clock, and what
 * building, loading and memory cost.
 *
 *     npm run build && node bench/anatomy.mjs resnet50.onnx --calibration resnet50.calibration.json --out anatomy.json
 *     node bench/anatomy.mjs tiny.onnx --device swiftshader --batch 1,2 --precision fp32,fp16 --runs 3
 *
 * Each row is built twice, with an empty timing cache and with the one that the first build left; loaded twice, each time in a process of its
 * own (the driver's cache is warm the second time, if it keeps one); and profiled by timestamps. `split` is fp32 whose products are sums of
 * products of halves. int8 is left out without --calibration. --tune none|fast|full and --tune-budget are those of `build`; --top N layers are
 * printed, all of them are in --out FILE. --seconds N starts no further row after that time.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: 'string', default: 'fp16,int8,fp32,split' },
    batch: { type: 'string', default: '1,128' },
    calibration: { type: 'string' },
    device: { type: 'string' },
    tune: { type: 'string', default: 'fast' },
    'tune-budget': { type: 'string' },
    runs: { type: 'string', default: '20' },
    top: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '540' },
    out: { type: 'string' },
    load: { type: 'boolean', default: false },
  },
});
const [target] = positionals;
if (!target) throw new Error('which model?');
const say = (line) => process.stdout.write(`${line}\n`);
if (flags.load) await timeLoad(target);
else await anatomy(target);

/** In a process of its own: from the file to the first answer. */
async function timeLoad(file) {
  const start = performance.now();
  const { readEngine } = await import('../dist/src/engine/read.js');
  const { webgpuBackend } = await import('../dist/src/backends/webgpu/webgpu.js');
  const { seededInputs } = await import('../dist/src/measure/inputs.js');
  const importMs = performance.now() - start;
  const read = performance.now();
  const engine = await readEngine(file);
  const session = await webgpuBackend.load(engine, { device: flags.device });
  const loadMs = performance.now() - read;
  const inputs = seededInputs(session.inputs, 1);
  const run = performance.now();
  await session.run(inputs);
  say(JSON.stringify({ importMs, loadMs, firstRunMs: performance.now() - run }));
  await session.dispose();
}

async function tool(...args) {
  const bin = fileURLToPath(new URL('../bin/run.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [bin, ...args, '--json'], { maxBuffer: 2 ** 28 });
  return JSON.parse(stdout);
}

async function load(file) {
  const { stdout } = await promisify(execFile)(process.execPath, [fileURLToPath(import.meta.url), file, '--load', ...deviceFlag()]);
  return JSON.parse(stdout);
}

function deviceFlag() {
  return flags.device ? ['--device', flags.device] : [];
}

async function anatomy(model) {
  const folder = mkdtempSync(join(tmpdir(), 'anatomy-'));
  const deadline = performance.now() + Number(flags.seconds) * 1000;
  const rows = [];
  try {
    for (const batch of flags.batch.split(',').map(Number)) {
      for (const precision of flags.precision.split(',')) {
        if (precision === 'int8' && !flags.calibration) continue;
        if (performance.now() > deadline) {
          say(`${precision}, batch ${batch}: left out, the time is up`);
          continue;
        }
        try {
          rows.push(await row(model, precision, batch, folder));
          report(rows.at(-1));
        } catch (error) {
          say(`${precision}, batch ${batch}: ${String(error.stderr || error.message).trim().split('\n').slice(0, 6).join(' ')}`);
        }
        if (flags.out) writeFileSync(flags.out, JSON.stringify(rows, undefined, 1));
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function row(model, precision, batch, folder) {
  const engine = join(folder, `${precision}-${batch}.engine`);
  const isSplit = precision === 'split';
  const args = [
    'build', model, '--backend', 'webgpu', '--precision', isSplit ? 'fp32' : precision, '--batch', String(batch), '-o', engine, '--tune', flags.tune,
    '--timing-cache', join(folder, `${precision}-${batch}.json`), ...deviceFlag(),
    ...(flags['tune-budget'] ? ['--tune-budget', flags['tune-budget']] : []),
    ...(isSplit ? ['--option', 'f32Products=split'] : []),
    ...(precision === 'int8' ? ['--calibration', flags.calibration] : []),
  ];
  const cold = await tool(...args);
  const warm = await tool(...args);
  const loads = [await load(engine), await load(engine)];
  const [{ roofline, peaks, device }] = await tool('profile', engine, '--runs', flags.runs, ...deviceFlag());
  const build = ({ stepsMs, buildStepsMs, header }) => ({ totalMs: Object.values(stepsMs).reduce((sum, ms) => sum + ms, 0), tuningMs: buildStepsMs.tuning ?? 0, tuning: header.tactics?.tuning, notices: header.notices });
  const { plan, memory } = { plan: warm.header.backendData, memory: warm.header.memory };
  return { model, precision, batch, device, peaks, dispatches: plan.steps.length, pipelines: plan.shaders.length, memory, builds: [build(cold), build(warm)], loads, roofline };
}

function report({ precision, batch, device, dispatches, pipelines, memory, builds, loads, roofline }) {
  const { rows, kernelNs, wallNs, residualNs, floorNs } = roofline;
  const us = (ns) => (ns === undefined ? '–' : (ns / 1000).toFixed(1));
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  say(`\n${precision}, batch ${batch}, ${device.description}`);
  say(`  ${dispatches} dispatches, ${pipelines} pipelines; sum of the layers ${us(kernelNs)} µs, wall ${us(wallNs)} µs, gap ${us(residualNs)} µs; floor ${us(floorNs)} µs`);
  say(`  ${((batch * 1e9) / wallNs).toFixed(0)} items/s back to back without transfers`);
  const [cold, warm] = builds;
  const counts = (build) => (build.tuning ? `${build.tuning.measured} measured, ${build.tuning.reused} reused, clock ${build.tuning.clocks ?? 'not asked'}` : 'not tuned');
  say(`  build ${(cold.totalMs / 1000).toFixed(1)} s cold (tuning ${(cold.tuningMs / 1000).toFixed(1)} s: ${counts(cold)}), ${(warm.totalMs / 1000).toFixed(1)} s with its timing cache (${counts(warm)})`);
  say(`  load ${loads.map(({ loadMs, firstRunMs }) => `${(loadMs / 1000).toFixed(2)} s + first run ${(firstRunMs / 1000).toFixed(2)} s`).join(', then ')}`);
  say(`  memory: weights ${megabytes(memory.weightBytes)} MB, activations ${megabytes(memory.activationBytes)}, workspace ${megabytes(memory.workspaceBytes)}, staging ${megabytes(memory.stagingBytes)}`);
  for (const notice of new Set(builds.flatMap(({ notices }) => notices))) say(`  note: ${notice}`);
  for (const { name, kind, tactic, durationNs, timeShare, floor } of rows.toSorted((a, b) => b.durationNs - a.durationNs).slice(0, Number(flags.top))) {
    const reached = floor ? `${(100 * floor.share).toFixed(0)} % of its floor, ${floor.bound}` : 'no floor';
    say(`  ${us(durationNs).padStart(9)} µs ${(100 * timeShare).toFixed(1).padStart(5)} %  ${kind} ${tactic ?? ''}  [${name}] ${reached}`);
  }
}
