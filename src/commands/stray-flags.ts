/** Flags that were given and would change nothing: refused, since whoever gave them expects that they do. */
import { TsrtError } from '../errors.ts';

/** What oclif's parser gives. */
interface Parsed {
  readonly flags: Readonly<Record<string, unknown>>;
  readonly metadata: { readonly flags: Readonly<Record<string, { readonly setFromDefault?: boolean } | undefined>> };
}

/** Throws USAGE for the first of the flags that was given; a default was not. `why` follows its name: `goes with --measure`. */
export function refuseStray({ flags, metadata }: Parsed, names: readonly string[], why: string, fix = 'leave it out'): void {
  const stray = names.find((name) => flags[name] !== undefined && flags[name] !== false && metadata.flags[name]?.setFromDefault !== true);
  if (stray !== undefined) throw new TsrtError('USAGE', `--${stray} ${why}`, { fix });
}

/** Of flags that say how an engine is built, where one was named that is. */
export const BUILT_ALREADY = 'says how an engine is built, but the file is already one';
