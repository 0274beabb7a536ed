/** `tsrt-bench plugins`. */
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';

interface PluginRow {
  readonly name: string;
  readonly version: string;
  readonly source: string;
  readonly backends: readonly string[];
  readonly reporters: readonly string[];
}

export default class Plugins extends BaseCommand {
  static override summary = 'Show which plugins are loaded, from where, and what each adds';
  static override examples = ['<%= config.bin %> plugins', '<%= config.bin %> plugins --plugin ./my-plugin'];
  static override flags = CONFIG_FLAGS;

  async run(): Promise<readonly PluginRow[]> {
    const { flags } = await this.parse(Plugins);
    const { config } = await settings(flags);
    const { openRegistry } = await import('../workflows/registry.ts');
    const registry = await openRegistry(config.plugins);
    const rows = registry.plugins.map(({ plugin, source }) => ({
      name: plugin.name,
      version: plugin.version,
      source,
      backends: (plugin.backends ?? []).map((backend) => backend.name),
      reporters: (plugin.reporters ?? []).map((reporter) => reporter.name),
    }));
    for (const row of rows) {
      this.log(`${row.name} ${row.version} (${row.source})`);
      if (row.backends.length > 0) this.log(`  backends   ${row.backends.join(', ')}`);
      if (row.reporters.length > 0) this.log(`  reporters  ${row.reporters.join(', ')}`);
    }
    return rows;
  }
}
