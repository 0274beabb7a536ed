/**
 * Is the gate right on this machine, in real runs? A project of its own is made in a git repository, and `gate SUITE --against
 * HEAD` is run again and again as a user would run it:
 *
 *     A/A   the working tree is what the revision is: any alarm is false
 *     A/B   the working tree's plugin wastes 10 % of each execution's time (bench/gate-runs/plugin.mjs): it should be caught
 *
 *     npm run build && npm run bench:gate-runs -- [--runs 20] [--waste 10] [--suite smoke] [--rounds 24] [--time 100ms] [--threshold 5]
 *
 * A/A and A/B take turns, so that what the machine does falls on both. Exit status 0: no false alarm, and every slowed candidate
 * caught; else 1. Quiet machines answer; a busy one says `undecided`, which is neither caught nor a false alarm.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    waste: { type: 'string', default: '10' },
    suite: { type: 'string', default: 'smoke' },
    rounds: { type: 'string', default: '24' },
    time: { type: 'string', default: '100ms' },
    threshold: { type: 'string', default: '5' },
  },
});
const root = fileURLToPath(new URL('..', import.meta.url));
const say = (line) => process.stdout.write(`${line}\n`);
const STATUSES = { 0: 'passed', 1: 'regressed', 4: 'undecided' };

const project = await mkdtemp(join(tmpdir(), 'gate-runs-'));
const git = (...words) => execFileSync('git', ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost', ...words], { cwd: project, stdio: 'pipe' });
const setWaste = (percent) => writeFile(join(project, 'waste.mjs'), `/** Share of an execution's time that is wasted after it. */\nexport const WASTE = ${percent / 100};\n`);

try {
  await makeProject();
  const tally = { 'A/A': {}, 'A/B': {} };
  for (let run = 1; run <= Number(values.runs); run++) {
    for (const kind of ['A/A', 'A/B']) {
      await setWaste(kind === 'A/A' ? 0 : Number(values.waste));
      const startMs = performance.now();
      const { verdict, reasons } = await gate();
      tally[kind][verdict] = (tally[kind][verdict] ?? 0) + 1;
      const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
      say(`${kind} ${String(run).padStart(2)}  ${verdict.padEnd(9)}  ${seconds} s, load ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores`);
      for (const text of reasons) say(`          ${text}`);
    }
  }
  const count = (kind, verdict) => tally[kind][verdict] ?? 0;
  say(`\nA/A: ${count('A/A', 'regressed')} false alarms in ${values.runs} gates, ${count('A/A', 'undecided')} undecided`);
  say(`A/B: ${count('A/B', 'regressed')} of ${values.runs} caught (${values.waste} % wasted), ${count('A/B', 'undecided')} undecided, ${count('A/B', 'passed')} passed`);
  process.exitCode = count('A/A', 'regressed') === 0 && count('A/B', 'regressed') === Number(values.runs) ? 0 : 1;
} finally {
  await rm(project, { recursive: true, force: true });
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
  const { suite, rounds, time, threshold } = values;
  const words = ['gate', suite, '--against', 'HEAD', '--rounds', rounds, '--time', time, '--threshold', `latency-p50=${threshold}`, '--json'];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'bin', 'run.js'), ...words], { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part));
    child.once('error', reject);
    child.once('close', (status) => {
      const verdict = STATUSES[status];
      if (verdict === undefined) return reject(new Error(`the gate ended with status ${status}: ${text}`));
      const reasons = JSON.parse(text).cases.map((one) => `${one.verdict}: ${one.reason}`);
      resolve({ verdict, reasons });
    });
  });
}
