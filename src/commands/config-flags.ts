/** Flags that name configuration values, and the step from parsed flags to the settings in force. */
import { Flags } from '@oclif/core';
import type { Config, ConfigFlags, ResolvedConfig } from '../config.ts';
import type { BaselineStore } from '../results/stores/contract.ts';
import { GLOBAL_FLAGS } from './base.ts';

/** Where things are kept; every command that touches files has these. */
export const CONFIG_FLAGS = {
  ...GLOBAL_FLAGS,
  results: Flags.string({
    aliases: ['out'],
    description: 'folder of records and baselines [default: ./results]',
    helpValue: 'DIR',
    helpGroup: 'GLOBAL',
  }),
  cache: Flags.string({ description: "folder of models and engines [default: the user's cache folder]", helpValue: 'DIR', helpGroup: 'GLOBAL' }),
} as const;

/** Where baselines are; of the commands that read or write them. */
export const STORE_FLAG = {
  store: Flags.string({
    description: 'where baselines are kept: a folder, s3://BUCKET/PREFIX or https://HOST/PATH [default: baselines in the results]',
    helpValue: 'PLACE',
    helpGroup: 'GLOBAL',
  }),
} as const;

/** Opens the place of the baselines, with the credentials of the environment. Throws USAGE and STORE_UNAVAILABLE. */
export async function openBaselines(config: Pick<Config, 'store'>): Promise<BaselineStore> {
  const { openStore } = await import('../results/stores/store.ts');
  return openStore(config.store, process.env);
}

/** Reads the configuration file and puts the flags over it. */
export async function settings(flags: {
  readonly plugin?: readonly string[] | undefined;
  readonly results?: string | undefined;
  readonly cache?: string | undefined;
} & Omit<ConfigFlags, 'plugins' | 'results' | 'cache'>): Promise<ResolvedConfig> {
  const { resolveConfig } = await import('../config.ts');
  const { plugin, ...rest } = flags;
  return resolveConfig({ ...rest, plugins: plugin }, process.cwd(), process.env);
}

/** One line per setting: its value and where that came from. */
export function describeSettings({ config, origins }: ResolvedConfig): string[] {
  const keys = Object.keys(origins) as (keyof typeof origins)[];
  const shown = (value: unknown): string => (value === undefined ? "the suite's" : Array.isArray(value) ? value.join(', ') || 'none' : String(value));
  const width = Math.max(...keys.map((key) => shown(config[key]).length));
  return keys.map((key) => `${key.padEnd(10)} ${shown(config[key]).padEnd(width)}  (${origins[key]})`);
}
