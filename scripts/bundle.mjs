/**
 * Joins the built modules into few files: Node takes up to a millisecond to find, read and link a module, of which a command needs
 * hundreds, and each round of a measurement starts a process.
 *
 * What several entries need lies in files that they share, so that there is one of each class and of each state; what an entry does not
 * import it does not load. All files lie in one folder: `import.meta.url` means the same in each.
 */
import { copyFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const ENTRIES = {
  'cli': 'cli',
  'commands': 'commands/index',
  'not-found': 'commands/not-found',
  'measure-worker': 'measure/worker',
  'kit-worker': 'kit/worker',
  'verify-worker': 'workflows/verify/worker',
  'serve-worker': 'serve/worker',
  'side-worker': 'workflows/paired/revision/side-worker',
  'typescript-hooks': 'typescript-hooks',
  'index': 'index',
  'node': 'node',
  'runtime': 'runtime',
};

/** Of the packages this alone lies in the bundle: it consists of a hundred modules, which took a fifth of a command's start. */
const INSIDE = 'zod';

const root = fileURLToPath(new URL('..', import.meta.url));

const bundle = await rolldown({
  cwd: root,
  input: Object.fromEntries(Object.entries(ENTRIES).map(([name, path]) => [name, `dist/src/${path}.js`])),
  external: (id) => !/^(\.|dist\/)/.test(id) && !isAbsolute(id) && id !== INSIDE,
  // No bridge to Node's require, which the runtime must not need.
  platform: 'neutral',
  resolve: { mainFields: ['module'], conditionNames: ['import'] },
});
await bundle.write({ dir: 'dist/bundle', format: 'esm', chunkFileNames: '[name]-[hash].js' });
await copyFile(join(root, 'node_modules', INSIDE, 'LICENSE'), join(root, 'dist/bundle', `LICENSE-${INSIDE}`));
