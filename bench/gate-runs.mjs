/**
 * Is the gate right on this machine, in real runs? A project of its own is made in a git repository, and `gate SUITE --against
 * HEAD` is run again and again as a user would run it:
 *
 *     A/A   the working tree is what the revision is: any alarm is false
 *     A/B   the working tree's plugin wastes 10 % of each execution's time (bench/gate-runs/plugin.mjs): it should be caught
 *
 *     npm run build && npm run bench:gate-runs -- [--runs 20] [--waste 10] [--suite smoke] [--rounds 48] [--budget 50s] [--time 150ms]
 *                                                 [--threshold 5] [--output gate-runs.json] [--fresh]
 *
 * A/A and A/B take turns, so that what the machine does falls on both. Every gate is kept in the output file as it ends, with its
 * verdict, intervals and duration; the same command goes on where it was stopped, `--fresh` begins anew. Exit status 0: no false
 * alarm, and every slowed candidate caught; else 1. A machine that is too busy gets `undecided`, which is neither.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    waste: { type: 'string', default: '10' },
    suite: { type: 'string', default: 'smoke' },
    rounds: { type: 'string', default: '48' },
    budget: { type: 'string', default: '50s' },
    time: { type: 'string', default: '150ms' },
    threshold: { type: 'string', default: '5' },
    output: { type: 'string', default: 'gate-runs.json' },
    fresh: { type: 'boolean', default: false },
  },
});
const { output, fresh, runs, ...settings } = values;
const root = fileURLToPath(new URL('..', import.meta.url));
const say = (line) => process.stdout.write(`${line}\n`);
const STATUSES = { 0: 'passed', 1: 'regressed', 4: 'undecided' };
const KINDS = ['A/A', 'A/B'];

const file = resolve(output);
const kept = fresh ? [] : await readKept();
const project = await mkdtemp(join(tmpdir(), 'gate-runs-'));
const git = (...words) => execFileSync('git', ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost', ...words], { cwd: project, stdio: 'pipe' });
const setWaste = (percent) => writeFile(join(project, 'waste.mjs'), `/** Share of an execution's time that is wasted after it. */\nexport const WASTE = ${percent / 100};\n`);

try {
  await makeProject();
  say('kind  run  verdict    seconds  load  rounds  change of each case, by metric');
  for (const one of kept) say(rowOf(one));
  for (let run = 1; run <= Number(runs); run++) {
    for (const kind of KINDS) {
      if (kept.some((one) => one.kind === kind && one.run === run)) continue;
      await setWaste(kind === 'A/A' ? 0 : Number(settings.waste));
      const startMs = performance.now();
      const answer = await gate();
      const seconds = Number(((performance.now() - startMs) / 1000).toFixed(1));
      kept.push({ kind, run, ...answer, seconds, load: Number(loadavg()[0].toFixed(1)) });
      await keep();
      say(rowOf(kept.at(-1)));
    }
  }
  summarize();
} finally {
  await rm(project, { recursive: true, force: true });
}

/** Gates of an earlier start with the same settings; others are not mixed with these. */
async function readKept() {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return [];
  const earlier = JSON.parse(text);
  if (JSON.stringify(earlier.settings) === JSON.stringify(settings)) return earlier.gates;
  throw new Error(`${file} is of other settings: give --fresh, or another --output`);
}

/** A stop in the middle leaves the file as it was. */
async function keep() {
  await writeFile(`${file}.part`, `${JSON.stringify({ settings, cores: availableParallelism(), gates: kept }, null, 2)}\n`);
  await rename(`${file}.part`, file);
}

function rowOf({ kind, run, verdict, seconds, load, cases }) {
  const percent = (value) => (value === null ? '∞' : `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(1)}`);
  const metric = ({ name, verdict: said, point, low, high }) => `${name} ${percent(point)} (${percent(low)} … ${percent(high)}) ${said}`;
  const rounds = cases.map((one) => one.rounds).join('+');
  const [first, ...rest] = cases.map((one) => one.metrics.map(metric).join(', '));
  const head = `${kind}   ${String(run).padStart(3)}  ${verdict.padEnd(9)}  ${seconds.toFixed(1).padStart(7)}  ${load.toFixed(1).padStart(4)}  ${rounds.padEnd(6)}  `;
  return [head + first, ...rest.map((text) => ' '.repeat(head.length) + text)].join('\n');
}

function summarize() {
  const count = (kind, verdict) => kept.filter((one) => one.kind === kind && one.verdict === verdict).length;
  const total = (kind) => kept.filter((one) => one.kind === kind).length;
  const seconds = kept.map((one) => one.seconds).sort((a, b) => a - b);
  say(`\nA/A  ${total('A/A')} gates: ${count('A/A', 'regressed')} false alarms, ${count('A/A', 'passed')} passed, ${count('A/A', 'undecided')} undecided`);
  say(`A/B  ${total('A/B')} gates: ${count('A/B', 'regressed')} caught (${settings.waste} % wasted), ${count('A/B', 'passed')} passed, ${count('A/B', 'undecided')} undecided`);
  say(`${seconds[0]?.toFixed(0)} to ${seconds.at(-1)?.toFixed(0)} s a gate, ${seconds[Math.floor(seconds.length / 2)]?.toFixed(0)} s the median; all of it is in ${file}`);
  process.exitCode = count('A/A', 'regressed') === 0 && count('A/B', 'regressed') === total('A/B') ? 0 : 1;
}

async function makeProject() {
  await cp(join(root, 'bench', 'gate-runs', 'plugin.mjs'), join(project, 'plugin.mjs'));
  await setWaste(0);
  await writeFile(join(project, 'tsrt-bench.config.mjs'), "export default { plugins: ['./plugin.mjs'], backend: ['wasteful'] };\n");
  await writeFile(join(project, 'package.json'), '{ "name": "gate-runs", "private": true, "type": "module" }\n');
  await writeFile(join(project, '.gitignore'), 'node_modules\nresults\n');
  await mkdir(join(project, 'node_modules'));
  await symlink(root, join(project, 'node_modules', 'tsrt-bench'), 'junction');
  await symlink(join(root, 'node_modules', 'onnxruntime-node'), join(project, 'node_modules', 'onnxruntime-node'), 'junction');
  git('init', '--quiet', '--initial-branch=main', '.');
  git('add', '--all', '.');
  git('commit', '--quiet', '--message=the suite as it was');
}

/** One gate, in a process of its own. */
function gate() {
  const { suite, rounds, budget, time, threshold } = settings;
  const words = ['gate', suite, '--against', 'HEAD', '--rounds', rounds, '--budget', budget, '--time', time, '--threshold', `latency-p50=${threshold}`, '--json'];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'bin', 'run.js'), ...words], { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part));
    child.once('error', reject);
    child.once('close', (status) => {
      const verdict = STATUSES[status];
      if (verdict === undefined) reject(new Error(`the gate ended with status ${status}: ${text}`));
      else resolve({ verdict, cases: JSON.parse(text).cases.map(caseOf) });
    });
  });
}

/** What decides of a case, in percent. */
function caseOf({ caseId, verdict, reason, metrics }) {
  const percent = (ratio) => (Number.isFinite(ratio) ? Number(((ratio - 1) * 100).toFixed(2)) : null);
  const timed = metrics.filter(({ watched, change }) => !watched && change.kind === 'sampled');
  return {
    id: caseId,
    verdict,
    reason,
    rounds: timed[0]?.change.rounds ?? 0,
    metrics: timed.map(({ metric, verdict: said, change: { ratio } }) => ({
      name: metric,
      verdict: said,
      point: percent(ratio.point),
      low: percent(ratio.low),
      high: percent(ratio.high),
    })),
  };
}
