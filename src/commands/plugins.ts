/** `tsrt-bench plugins`. */
import { opTitle } from '../ir/custom.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';

interface PluginRow {
  readonly name: string;
  readonly version: string;
  readonly source: string;
  readonly sha256: string;
  readonly ops: readonly string[];
  readonly backends: readonly string[];
  readonly datasets: readonly string[];
  readonly calibrators: readonly string[];
  readonly reporters: readonly string[];
  readonly suites: readonly string[];
}

const KINDS = ['ops', 'backends', 'datasets', 'calibrators', 'reporters', 'suites'] as const;

export default class Plugins extends BaseCommand {
  static override summary = 'Show which plugins are loaded, from where, and what each adds';
  static override examples = ['<%= config.bin %> plugins', '<%= config.bin %> plugins --plugin ./my-plugin'];
  static override flags = CONFIG_FLAGS;

  async run(): Promise<readonly PluginRow[]> {
    const { flags } = await this.parse(Plugins);
    const { config } = await settings(flags);
    const { openRegistry } = await import('../workflows/registry.ts');
    const registry = await openRegistry(config.plugins);
    const rows = registry.plugins.map(({ plugin, source, sha256 = '' }) => ({
      name: plugin.name,
      version: plugin.version,
      source,
      sha256,
      ops: (plugin.ops ?? []).map(opTitle),
      backends: (plugin.backends ?? []).map(({ name }) => name),
      datasets: (plugin.datasets ?? []).map(({ name }) => name),
      calibrators: (plugin.calibrators ?? []).map(({ name }) => name),
      reporters: (plugin.reporters ?? []).map(({ name }) => name),
      suites: (plugin.suites ?? []).map((place) => String(place)),
    }));
    for (const row of rows) {
      this.log(`${row.name} ${row.version} (${row.source})`);
      for (const kind of KINDS) if (row[kind].length > 0) this.log(`  ${kind.padEnd(11)} ${row[kind].join(', ')}`);
    }
    return rows;
  }
}
