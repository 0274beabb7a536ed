import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const root = fileURLToPath(new URL('.', import.meta.url));

export default defineConfig({
  resolve: {
    // Plugins and tests import the public API by its package name, as users do; here it is the source.
    alias: [
      { find: /^tsrt-bench$/, replacement: `${root}src/index.ts` },
      { find: /^tsrt-bench\/runtime$/, replacement: `${root}src/runtime.ts` },
    ],
  },
  test: {
    include: ['test/**/*.test.ts', 'plugins/**/*.test.ts'],
    testTimeout: 120_000,
    // Native addons (onnxruntime, Dawn) live better in processes than in threads.
    pool: 'forks',
    maxWorkers: 2,
  },
});
