/** A project under git whose plugin is a backend as fast as a file of it says, for commands that compare its commits, on the null backend's fake clock. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { groupFolder } from '../helpers/folder.ts';
import { testRepository } from '../helpers/repository.ts';
import { startIn, workplace } from './cli.ts';

const nullBackend = fileURLToPath(new URL('../../dist/src/backends/null/null.js', import.meta.url));

/** A backend of the project: the null backend, at the speed that the project says. */
const PLUGIN = `
import { nullBackend } from ${JSON.stringify(nullBackend)};
import { LATENCY_NS } from './latency.mjs';
const renamed = (engine, backend) => ({ ...engine, header: { ...engine.header, backend } });
const options = (given) => ({ ...given, backendOptions: { latencyNs: LATENCY_NS, jitter: 0.001 } });
export default { name: 'project', version: '1.0.0', backends: [{
  ...nullBackend,
  name: 'project',
  build: async (input, context) => renamed(await nullBackend.build({ ...input, options: options(input.options) }, context), 'project'),
  load: (engine, more) => nullBackend.load(renamed(engine, 'null'), more),
}] };
`;

export const SUITE = `
name: nulls
description: made-up answers on a fake clock
model: { name: smoke, builder: { name: smoke } }
inputs: [{ kind: synthetic, values: { distribution: normal } }]
task: { kind: classification }
variants: [{ backend: project }]
measure: { rounds: 3, timeMs: 20, timeoutMs: 60000 }
accuracy: { samples: 3 }
gate: { thresholds: { latency-p50: 5 } }
`;

/** The project with its first commit, in a folder that ends with the test, or in the one given. `run` takes a process of its own, `runShared` that of the file. */
export async function project(place?: string) {
  const repository = await testRepository(place);
  const { folder, write, commit } = repository;
  const setLatency = (ns: number) => write('latency.mjs', `export const LATENCY_NS = ${ns};\n`);
  await write('suites/nulls/suite.yaml', SUITE);
  await write('plugin.mjs', PLUGIN);
  await write('tsrt-bench.config.mjs', "export default { plugins: ['./plugin.mjs'] };\n");
  await write('.gitignore', 'results\ncache\n');
  await setLatency(1_000_000);
  const first = commit('first');
  const start = startIn(folder);
  const { run: runShared } = await workplace(undefined, folder);
  /** What is left of checkouts, in the cache and in git's list. */
  const leftovers = async () => ({
    cache: await readdir(join(folder, 'cache', 'worktrees')).catch(() => []),
    trees: repository.git('worktree', 'list').split('\n').length - 1,
    changes: repository.git('status', '--short'),
  });
  return { ...repository, first, setLatency, start, leftovers, run: (...words: string[]) => start(words, () => {}), runShared };
}

/** The fake clock is exact to a thousandth: the fewest rounds by which a change can be beyond chance. */
export const ROUNDS = ['--rounds', '8', '--time', '20ms'];

/** Refusals change nothing: one project serves those of a group. */
export function sharedProject(): () => ReturnType<typeof project> {
  const place = groupFolder();
  let made: ReturnType<typeof project> | undefined;
  return async () => (made ??= project(await place()));
}
