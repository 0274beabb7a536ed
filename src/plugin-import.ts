/** Imports a plugin's module: whatever it does meanwhile, the error says whose it is, and standard output stays the tool's. */
import { pathToFileURL } from 'node:url';
import { EXIT, plainFrame, TsrtError } from './errors.ts';
import { checkPeer } from './plugin-peer.ts';
import { parsePlugin } from './plugin-schema.ts';
import { filesOf } from './plugin-source.ts';
import { importFix, isTypescript, readTypescript, syntaxPlace } from './plugin-typescript.ts';
import type { Plugin } from './plugin.ts';

/** Throws PLUGIN_INVALID for a plugin of another tsrt-bench, a module that can't be loaded, and for one that is no plugin. */
export async function importPlugin(source: string): Promise<Plugin> {
  checkPeer(source);
  if (filesOf(source).some(isTypescript)) readTypescript();
  return parsePlugin((await guarded(source, () => imported(source))).default, source);
}

interface PluginModule {
  readonly default?: unknown;
}

async function imported(source: string): Promise<PluginModule> {
  try {
    return (await import(pathToFileURL(source).href)) as PluginModule;
  } catch (cause) {
    throw new TsrtError('PLUGIN_INVALID', `the plugin could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, {
      plugin: source,
      place: (await syntaxPlace(cause, filesOf(source))) ?? plainFrame((cause instanceof Error && cause.stack) || '') ?? source,
      fix: importFix(cause, source) ?? 'mend the error above',
      cause,
    });
  }
}

/**
 * Runs `work` with standard output led to standard error: reports and JSON are written there. A module that ends the process, or
 * waits forever for something that does not come (Node then ends by itself), is named before the process is gone.
 */
async function guarded<T>(source: string, work: () => Promise<T>): Promise<T> {
  const onExit = (): void => {
    process.stderr.write(`error: [plugin ${source}] the process ended while the plugin was loaded: its module calls process.exit, or awaits something that never settles\n  fix: correct what the module does on import\n`);
    process.exitCode = EXIT.usage;
  };
  const { write } = process.stdout;
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof write;
  process.once('exit', onExit);
  try {
    return await work();
  } finally {
    process.off('exit', onExit);
    process.stdout.write = write;
  }
}
