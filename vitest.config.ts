import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig } from 'vitest/config';

const root = fileURLToPath(new URL('.', import.meta.url));

// SwiftShader's compiler takes and frees megabytes for every kernel: glibc, unless told to keep them, gives them back to the system each time, which takes two thirds
// of the processor's time of a kernel test. Read where a process starts, so that it must be here; other systems ignore it.
Object.assign(process.env, { MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: String(2 ** 25), MALLOC_TRIM_THRESHOLD_: String(2 ** 32), MALLOC_TOP_PAD_: String(2 ** 26) });

export default defineConfig({
  resolve: {
    // Plugins and tests import the public API by its package name, as users do; here it is the source.
    alias: [
      { find: /^tsrt-bench$/, replacement: `${root}src/index.ts` },
      { find: /^tsrt-bench\/node$/, replacement: `${root}src/node.ts` },
      { find: /^tsrt-bench\/runtime$/, replacement: `${root}src/runtime.ts` },
    ],
  },
  test: {
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['default', './test/helpers/skipped.ts'],
    // Native addons (onnxruntime, Dawn) live better in processes than in threads.
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      // Vitest takes projects by their names, in the order of the alphabet: this one must be the first. Its files take up to minutes each, and the many short ones of the others keep both workers busy to the end.
      { extends: true, test: { name: 'cli', include: ['test/**/*.test.ts', 'plugins/**/*.test.ts'], exclude: [...configDefaults.exclude, 'test/unit/**', 'test/device/**'] } },
      // One process runs many of these files, so that the project's modules are loaded once and not a hundred times, and SwiftShader with them.
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], isolate: false } },
      { extends: true, test: { name: 'device', include: ['test/device/**/*.test.ts'], isolate: false } },
    ],
  },
});
