/** `plugin test`: the conformance kit over the ops of one plugin. */
import { checkConformance, type ConformanceReport } from '../kit/conformance.ts';
import type { CheckName } from '../kit/checks.ts';
import { TsrtError } from '../errors.ts';
import { locatePlugin } from '../plugin-source.ts';
import { openRegistry } from './registry.ts';

export interface PluginTestRequest {
  /** Path or name, as `--plugin` takes it. */
  readonly plugin: string;
  /** Further plugins, which it needs. */
  readonly others: readonly string[];
  readonly device: string | undefined;
  readonly seed: number;
  readonly effort: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly onCheck?: (op: string, check: CheckName) => void;
}

/** Throws PLUGIN_INVALID for a plugin that can't be loaded, USAGE for one without ops and for a device that is not there. */
export async function testPlugin(request: PluginTestRequest): Promise<ConformanceReport> {
  const cwd = process.cwd();
  const plugins = [request.plugin, ...request.others];
  const registry = await openRegistry(plugins);
  const source = locatePlugin(request.plugin, cwd);
  const { plugin } = registry.plugins.find((entry) => entry.source === source)!;
  if (!plugin.ops?.length) {
    throw new TsrtError('USAGE', 'the plugin has no ops, and the conformance kit checks ops', {
      plugin: plugin.name,
      fix: 'its other parts are checked when it is loaded: tsrt-bench plugins --plugin PATH',
    });
  }
  const webgpu = registry.backend('webgpu');
  const availability = await webgpu.probe(request.device);
  // SwiftShader is slow and right, which is what a kit wants where there is nothing else.
  const slug = availability.status === 'available' ? availability.devices[0]?.slug : undefined;
  const { seed, effort, timeoutMs, signal, onCheck } = request;
  return checkConformance({
    registry,
    plugins,
    cwd,
    checked: [plugin.name],
    device: slug === undefined ? { reason: availability.status === 'available' ? 'there is no adapter; name one with --device' : `${availability.reason}. ${availability.fix}` } : { slug },
    environment: (slug !== undefined && (await webgpu.workerEnvironment?.(slug))) || {},
    seed,
    effort,
    timeoutMs,
    signal,
    ...(onCheck && { onCheck }),
  });
}
