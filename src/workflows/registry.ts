/** The registry as commands see it: built-in backends and reporters, then the plugins that the user named. */
import { BACKENDS } from '../backends/built-in.ts';
import { loadRegistry, type Registry } from '../registry.ts';
import { REPORTERS } from '../report/reporters.ts';
import { TOOL_VERSION } from '../version.ts';

export function openRegistry(plugins: readonly string[]): Promise<Registry> {
  return loadRegistry({
    plugins,
    builtIn: { name: 'tsrt-bench', version: TOOL_VERSION, backends: BACKENDS, reporters: REPORTERS },
  });
}
