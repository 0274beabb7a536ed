/** What is there, what is missing, and how to get it: backends, devices, machine, folders. */
import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { Availability } from '../backends/backend.ts';
import type { Config } from '../config.ts';
import { TOOL_VERSION } from '../version.ts';
import { chooseDevices, createProbe } from './probe.ts';
import { openRegistry } from './registry.ts';
import { selfTestsHere, type StoredSelfTest } from './self-tests.ts';

export interface BackendReport {
  readonly name: string;
  readonly description: string;
  readonly availability: Availability;
}

export interface FolderReport {
  readonly purpose: 'results' | 'cache';
  readonly path: string;
  readonly writable: boolean;
  readonly freeBytes: number | undefined;
}

export interface DoctorReport {
  readonly tool: string;
  readonly node: string;
  readonly os: string;
  readonly cpu: { readonly model: string; readonly logicalCores: number };
  readonly memoryBytes: number;
  readonly folders: readonly FolderReport[];
  readonly backends: readonly BackendReport[];
  /** Of the gate, on this machine, newest first. */
  readonly selfTests: readonly StoredSelfTest[];
  readonly plugins: readonly { readonly name: string; readonly version: string; readonly source: string }[];
}

/** Probes every backend, those that have a device of the given name for that one; a probe that throws is reported as unavailable, so that one broken driver hides nothing else. */
export async function doctor(config: Config, device?: string): Promise<DoctorReport> {
  const registry = await openRegistry(config.plugins);
  const all = [...registry.backends.values()];
  const probe = createProbe(await chooseDevices(device, all));
  const backends = await Promise.all(
    all.map(async (backend): Promise<BackendReport> => {
      return { name: backend.name, description: backend.description, availability: await probe(backend) };
    }),
  );
  return {
    tool: TOOL_VERSION,
    node: process.version,
    os: `${platform()} ${release()} ${arch()}`,
    cpu: { model: cpus()[0]?.model.trim() ?? 'unknown', logicalCores: cpus().length },
    memoryBytes: totalmem(),
    folders: [folder('results', config.results), folder('cache', config.cache)],
    backends,
    selfTests: await selfTestsHere(config.cache),
    plugins: registry.plugins.map(({ plugin, source }) => ({ name: plugin.name, version: plugin.version, source })),
  };
}

/** Looks at the folder, or at the nearest parent that exists, since it is made when first needed. */
function folder(purpose: FolderReport['purpose'], path: string): FolderReport {
  let existing = path;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  let writable = statSync(existing).isDirectory();
  try {
    accessSync(existing, constants.W_OK);
  } catch {
    writable = false;
  }
  const space = statfsSync(existing, { bigint: false });
  return { purpose, path, writable, freeBytes: space.bavail * space.bsize };
}
