/** Checks what a plugin's module exports before any of it is used. */
import { z } from 'zod';
import { TsrtError } from './errors.ts';
import { nearest } from './nearest.ts';
import type { Plugin } from './plugin.ts';

const named = { name: z.string().min(1), description: z.string() };
const fn = z.custom<(...parameters: unknown[]) => unknown>((value) => typeof value === 'function', 'expected a function');

const pluginSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'lower-case letters, digits and dashes'),
  version: z.string().min(1),
  backends: z.array(z.looseObject({ ...named, probe: fn, supports: fn, build: fn, load: fn })).optional(),
  reporters: z.array(z.looseObject({ ...named, fileExtension: z.string(), render: fn })).optional(),
});

const KNOWN_KEYS = Object.keys(pluginSchema.shape);

/** The plugin in a module's default export, or PLUGIN_INVALID with every problem at once. */
export function parsePlugin(value: unknown, source: string): Plugin {
  const result = pluginSchema.safeParse(value);
  if (result.success) return value as Plugin;
  const details = result.error.issues.map((issue) => {
    const place = issue.path.length > 0 ? issue.path.join('.') : 'the default export';
    if (issue.code !== 'unrecognized_keys') return `${place}: ${issue.message}`;
    return issue.keys.map((key) => `${key}: unknown key${nearest(key, KNOWN_KEYS) ? `; did you mean '${nearest(key, KNOWN_KEYS)}'?` : ''}`).join('; ');
  });
  throw new TsrtError('PLUGIN_INVALID', 'the module does not export a plugin', {
    plugin: source,
    place: source,
    details,
    fix: "export default definePlugin({ name, version, … }) with definePlugin from 'tsrt-bench'",
  });
}
