/**
 * The machine as a record describes it: whatever explains why the same engine is faster elsewhere.
 *
 * In a container the cores and the memory are what its control group grants, not what the host has, because that is what a run can use.
 */
import { createRequire } from 'node:module';
import { arch, cpus, loadavg, platform, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { constrainedMemory, version } from 'node:process';
import type { DeviceInfo } from '../backends/backend.ts';
import type { Environment } from '../results/record.ts';
import { availableCores, readText } from '../system.ts';

const require = createRequire(import.meta.url);

export interface EnvironmentOptions {
  readonly device: DeviceInfo;
  /** npm packages whose versions belong to the record; those not installed are left out. */
  readonly packages: readonly string[];
  /** Reads a small file of the kernel's; for tests. */
  readonly read?: (path: string) => string | undefined;
}

export function readEnvironment({ device, packages, read = readText }: EnvironmentOptions): Environment {
  return {
    device,
    cpu: {
      model: cpus()[0]?.model.trim() || 'unknown',
      cores: availableCores(read),
      governor: read('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'),
    },
    memoryBytes: Math.min(totalmem(), positive(constrainedMemory()) ?? Infinity),
    os: `${platform()} ${release()} ${arch()}`,
    node: version,
    packages: Object.fromEntries(packages.flatMap((name) => versionEntry(name))),
    loadAverage: loadavg(),
  };
}

function positive(value: number | undefined): number | undefined {
  return value !== undefined && value > 0 && Number.isFinite(value) ? value : undefined;
}

function versionEntry(name: string): [string, string][] {
  for (const folder of require.resolve.paths(name) ?? []) {
    const manifest = readText(join(folder, name, 'package.json'));
    if (manifest === undefined) continue;
    const { version } = JSON.parse(manifest) as { readonly version?: string };
    return version === undefined ? [] : [[name, version]];
  }
  return [];
}
