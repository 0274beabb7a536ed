/**
 * The version that engines and records carry. A constant and not a look into package.json, because the runtime has no file
 * system in a browser; a test keeps the two equal.
 */
export const TOOL_VERSION = '0.1.0';

/**
 * The part of a semantic version that must agree for an engine to load: the major, or `0.minor` before 1.0
 * (https://semver.org/#spec-item-4).
 */
export function compatibilityOf(version: string): string {
  const [major = '', minor = ''] = version.split('.');
  return major === '0' ? `0.${minor}` : major;
}
