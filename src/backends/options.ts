/**
 * Options that only one backend knows (`BuildOptions.backendOptions`): described as data, read with every default filled in.
 *
 * Specs are data so that `doctor`, help and docs can list them, and so that a misspelt option is refused by name.
 */
import type { BuildOptions } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';

/** One build option of a backend: what `--option NAME=VALUE` and a suite's `backendOptions` take. Bounds are inclusive. */
export type OptionSpec =
  | { readonly type: 'number'; readonly default: number; readonly min: number; readonly max?: number; readonly description: string }
  | { readonly type: 'boolean'; readonly default: boolean; readonly description: string }
  | { readonly type: 'choice'; readonly default: string; readonly choices: readonly string[]; readonly description: string };

/** A backend's build options by name. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/** The values that specs describe. */
export type OptionValues<S extends OptionSpecs> = {
  readonly [K in keyof S]: S[K] extends { readonly type: 'number' }
    ? number
    : S[K] extends { readonly type: 'boolean' }
      ? boolean
      : S[K] extends { readonly choices: readonly (infer C)[] }
        ? C
        : never;
};

/** Reads `backendOptions` by the specs. Throws TsrtError USAGE that lists everything wrong at once. */
export function readOptions<const S extends OptionSpecs>(specs: S, options: BuildOptions): OptionValues<S> {
  const given = options.backendOptions;
  const details: string[] = [];
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(specs, key)) continue;
    const guess = nearest(key, Object.keys(specs));
    details.push(`${key}: no such option${guess ? `; did you mean '${guess}'?` : ''}`);
  }
  const entries = Object.entries(specs).map(([key, spec]) => {
    const value = Object.hasOwn(given, key) ? given[key]! : spec.default;
    const fault = faultOf(spec, value);
    if (fault) details.push(`${key}: expected ${fault}, found ${JSON.stringify(value)}`);
    return [key, value] as const;
  });
  if (details.length > 0) {
    throw new TsrtError('USAGE', `the options for backend ${options.backend} are wrong`, {
      details,
      fix: `Options of ${options.backend}: ${Object.keys(specs).join(', ')}.`,
    });
  }
  return Object.fromEntries(entries) as OptionValues<S>;
}

function faultOf(spec: OptionSpec, value: string | number | boolean): string | undefined {
  switch (spec.type) {
    case 'number': {
      const { min, max = Number.MAX_SAFE_INTEGER } = spec;
      if (typeof value === 'number' && value >= min && value <= max) return undefined;
      return spec.max === undefined ? `a number from ${min}` : `a number from ${min} to ${max}`;
    }
    case 'boolean':
      return typeof value === 'boolean' ? undefined : 'true or false';
    case 'choice':
      return spec.choices.includes(value as string) ? undefined : `one of ${spec.choices.join(', ')}`;
    default:
      return spec satisfies never;
  }
}
