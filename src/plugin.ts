/**
 * A plugin is a value (prior art: esbuild, vite). It adds backends, suites' datasets, reporters and custom ops; the registry
 * collects plugins, refuses conflicts and puts the plugin's name on every error it raises.
 */
import type { Backend } from './backends/backend.ts';
import type { Reporter } from './report/reporter.ts';

export interface Plugin {
  /** Lower-case letters, digits and dashes. */
  readonly name: string;
  readonly version: string;
  readonly backends?: readonly Backend[];
  readonly reporters?: readonly Reporter[];
}

/** The identity, with types: gives completion and checks where a plugin is written. */
export function definePlugin(plugin: Plugin): Plugin {
  return plugin;
}
