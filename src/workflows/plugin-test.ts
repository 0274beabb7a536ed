/** `plugin test`: the conformance kit over the ops of one plugin, and a check of each of its other parts. */
import { rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { webgpuBackend } from '../backends/webgpu/webgpu.ts';
import { resolveConfig } from '../config.ts';
import { checkConformance, type ConformanceReport } from '../kit/conformance.ts';
import type { CheckName } from '../kit/checks.ts';
import { TsrtError } from '../errors.ts';
import { Lane } from '../kit/lane.ts';
import { checkParts, type PartResult } from '../kit/parts.ts';
import { locatePlugin } from '../plugin-source.ts';
import type { BenchRecord } from '../results/record.ts';
import { makeTemporaryFolder } from '../temporary.ts';
import { openRegistry } from './registry.ts';

export interface PluginTestRequest {
  /** Path or name, as `--plugin` takes it. */
  readonly plugin: string;
  /** Further plugins, which it needs. */
  readonly others: readonly string[];
  readonly device: string | undefined;
  /** For the plugin's datasets. */
  readonly datasetFolder?: string | undefined;
  readonly seed: number;
  readonly effort: number;
  readonly timeoutMs: number;
  /** What loading the modules may take; default a minute. */
  readonly loadTimeoutMs?: number;
  /** Default: every check of ops. */
  readonly only?: readonly CheckName[];
  readonly signal: AbortSignal | undefined;
  readonly onCheck?: (op: string, check: CheckName) => void;
}

/** Of ops, and of the other parts. */
export interface PluginReport extends ConformanceReport {
  readonly parts: readonly PartResult[];
}

/** Throws PLUGIN_INVALID for a plugin that can't be loaded, USAGE for an empty one and for a device that is not there. */
export async function testPlugin(request: PluginTestRequest): Promise<PluginReport> {
  const cwd = process.cwd();
  const plugins = [request.plugin, ...request.others];
  const { device, environment } = await findDevice(request.device);
  // First in a process that can be ended: a module that never comes to an end would take this one with it.
  const lane = new Lane({ open: { kind: 'open', plugins, cwd, device: 'slug' in device ? device.slug : undefined }, environment, signal: request.signal });
  try {
    await lane.open(request.loadTimeoutMs);
    const registry = await openRegistry(plugins);
    const source = locatePlugin(request.plugin, cwd);
    const { plugin } = registry.plugins.find((entry) => entry.source === source)!;
    const { seed, timeoutMs, signal, datasetFolder } = request;
    const folder = datasetFolder === undefined ? undefined : resolve(cwd, datasetFolder);
    const parts = await checkParts({ registry, plugin, lane, datasetFolder: folder, seed, timeoutMs, records: () => sampleRecords(signal) });
    const ops = plugin.ops?.length ? await checkConformance({ ...request, registry, lane, device, checked: [plugin.name] }) : { passed: true, device: undefined, seed, ops: [] };
    if (ops.ops.length + parts.length === 0) throw new TsrtError('USAGE', 'the plugin has nothing to test', { plugin: plugin.name, fix: 'give it ops, backends, datasets, calibrators, reporters or suites' });
    return { ...ops, passed: ops.passed && parts.every(({ status }) => status !== 'failed'), parts };
  } finally {
    lane.end();
  }
}

/** The device of the checks that need one, and what a worker's environment needs for it. */
async function findDevice(wanted: string | undefined): Promise<Pick<Parameters<typeof checkConformance>[0], 'device'> & { readonly environment: Readonly<Record<string, string>> }> {
  const availability = await webgpuBackend.probe(wanted);
  if (availability.status !== 'available') return { device: { reason: `${availability.reason}. ${availability.fix}` }, environment: {} };
  // SwiftShader is slow and right, which is what a kit wants where there is nothing else.
  const slug = availability.devices[0]?.slug;
  if (slug === undefined) return { device: { reason: 'there is no adapter; name one with --device' }, environment: {} };
  return { device: { slug }, environment: (await webgpuBackend.workerEnvironment?.(slug)) ?? {} };
}

const SAMPLE_SUITE = {
  name: 'kit',
  description: 'records of every status, from the null backend',
  model: { name: 'smoke', builder: { name: 'smoke' } },
  inputs: [{ kind: 'synthetic', values: { distribution: 'normal' } }],
  task: { kind: 'classification' },
  variants: [{ backend: 'null', precision: ['fp32', 'fp16'] }, { backend: 'null', precision: 'int8', backendOptions: { fault: 'error' } }],
  measure: { rounds: 2, timeMs: 20, isolation: 'case' },
  accuracy: { samples: 2 },
};

/** Two completed and one failed, as a run writes them. */
async function sampleRecords(signal: AbortSignal | undefined): Promise<readonly BenchRecord[]> {
  const folder = await makeTemporaryFolder('kit');
  try {
    const suite = join(folder, 'suite.json');
    await writeFile(suite, JSON.stringify(SAMPLE_SUITE));
    const [{ runSuite }, settings] = await Promise.all([import('./run/run.ts'), resolveConfig({ results: folder, cache: folder, plugins: [] }, folder)]);
    const { records } = await runSuite({ suite, settings, overrides: {}, modelFile: undefined, limit: undefined, device: undefined, resume: false, signal: signal ?? new AbortController().signal, onEvent: () => {} });
    return records;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
