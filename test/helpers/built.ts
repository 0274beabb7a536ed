/** Tests that start worker processes run the built code. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Throws where the project was not built: such tests would say nothing about this code. */
export function builtWorkers(): void {
  const worker = fileURLToPath(new URL('../../dist/bundle/kit-worker.js', import.meta.url));
  if (!existsSync(worker)) throw new Error('not built: npm run build');
}
