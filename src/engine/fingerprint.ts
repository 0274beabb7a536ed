/**
 * Whether an engine may run here: the tool's version and the device's fingerprint, compared key by key before anything runs.
 *
 * An engine's `requires` names the device properties that its build relied on; a backend puts there only what matters
 * (TensorRT binds an engine to the whole device model; a portable engine has none).
 */
import { TsrtError } from '../errors.ts';
import { TOOL_VERSION } from '../version.ts';
import type { EngineHeader } from './engine.ts';

/** One property that differs. `found` is undefined where the device does not have it at all. */
export interface Difference {
  readonly key: string;
  readonly required: string;
  readonly found: string | undefined;
}

/** Every required property that the device lacks or has otherwise, in the order of their names. */
export function compareRequirements(
  requires: Readonly<Record<string, string>>,
  properties: Readonly<Record<string, string>>,
): Difference[] {
  return Object.keys(requires)
    .sort()
    .map((key) => ({ key, required: requires[key]!, found: Object.hasOwn(properties, key) ? properties[key] : undefined }))
    .filter(({ required, found }) => found !== required);
}

/**
 * The part of a semantic version that must agree for an engine to load: the major, or `0.minor` before 1.0
 * (https://semver.org/#spec-item-4).
 */
export function compatibilityOf(version: string): string {
  const [major = '', minor = ''] = version.split('.');
  return major === '0' ? `0.${minor}` : major;
}

/**
 * What keeps an engine from a backend and a device of these properties, one line each: backend, tool version, requirements.
 * Without properties the device is not judged.
 */
export function differences(header: EngineHeader, backend: string, properties: Readonly<Record<string, string>> | undefined): string[] {
  const lines: string[] = [];
  if (header.backend !== backend) lines.push(`backend: engine ${header.backend}, here ${backend}`);
  if (compatibilityOf(header.tool.version) !== compatibilityOf(TOOL_VERSION)) {
    lines.push(`tool version: engine ${header.tool.version}, here ${TOOL_VERSION}`);
  }
  if (!properties) return lines;
  for (const { key, required, found } of compareRequirements(header.requires, properties)) {
    lines.push(`${key}: engine ${required}, here ${found ?? 'missing'}`);
  }
  return lines;
}

/**
 * Refuses an engine that was built for something else; without a device, for another backend or version. Backends call this first in `load`.
 * Throws TsrtError ENGINE_INCOMPATIBLE whose details name each difference.
 */
export function checkCompatible(
  header: EngineHeader,
  backend: string,
  device?: { readonly slug: string; readonly properties: Readonly<Record<string, string>> },
  fix = 'Build it again on this device, with this version: tsrt-bench build (run --engine does so with --rebuild).',
): void {
  const details = differences(header, backend, device?.properties);
  if (details.length === 0) return;
  throw new TsrtError('ENGINE_INCOMPATIBLE', `the engine of ${header.model.name} was not built for ${device?.slug ?? `tsrt-bench ${TOOL_VERSION}`}`, { fix, details });
}
