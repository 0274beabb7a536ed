/** Where a record comes from: tool, model, suite, machine. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DeviceInfo } from '../../backends/backend.ts';
import { readEnvironment } from '../../measure/environment.ts';
import type { Provenance } from '../../results/record.ts';
import { TOOL_VERSION } from '../../version.ts';
import { gitEnvironment } from '../git-environment.ts';

/** Packages whose versions can change a measurement. */
export const PACKAGES = ['onnxruntime-node', 'webgpu', 'tinybench'];

/** Device of a case that never reached one. */
export const NO_DEVICE: DeviceInfo = { slug: 'no-device', kind: 'fake', description: 'no device was reached', properties: {} };

export interface RunFacts {
  readonly runId: string;
  readonly startedAt: string;
  readonly model: Provenance['model'];
  readonly suiteSha256: string;
  readonly seed: number;
  readonly command?: string;
}

/** The provenance of every record of a run, by device; the machine is read once per device. */
export function createProvenance(facts: RunFacts): (device: DeviceInfo) => Provenance {
  const tool = { version: TOOL_VERSION, revision: gitRevision() };
  const environments = new Map<string, Provenance['environment']>();
  return (device) => {
    const environment = environments.get(device.slug) ?? readEnvironment({ device, packages: PACKAGES });
    environments.set(device.slug, environment);
    return { ...facts, tool, environment };
  };
}

/** Commit of the tool where it runs from a checkout, `-dirty` where that was changed; undefined for an installed package. */
export function gitRevision(): string | undefined {
  const root = packageRoot();
  if (!root || !existsSync(join(root, '.git'))) return undefined;
  try {
    return execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], env: gitEnvironment() }).trim();
  } catch {
    return undefined;
  }
}

/** The nearest folder above this module that has a package.json: the tool's own. */
export function packageRoot(): string | undefined {
  let folder = fileURLToPath(new URL('.', import.meta.url));
  for (let parent = join(folder, '..'); parent !== folder; folder = parent, parent = join(folder, '..')) {
    if (existsSync(join(folder, 'package.json'))) return folder;
  }
  return undefined;
}
