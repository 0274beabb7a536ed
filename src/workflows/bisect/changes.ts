/** Changes of build options as words: `fusion=off`, `precision=fp16`, `without=PASS`, `workspace=BYTES`, or a backend's option. */
import { type BuildOptions, FUSIONS, PRECISIONS } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { nearest } from '../../nearest.ts';
import { passNames } from '../../passes/names.ts';
import type { Case } from '../../results/record.ts';
import { variantId } from '../../suite/expand.ts';

/** The case with the changes made to its variant, in order. Throws USAGE for a word that is no change. */
export function changeCase(entry: Case, words: readonly string[]): Case {
  const options = words.reduce(changeOptions, entry.variant.options);
  const variant = { id: variantId(options), options };
  return { ...entry, id: entry.id.replace(entry.variant.id, variant.id), variant };
}

/** Throws USAGE. */
export function changeOptions(options: BuildOptions, word: string): BuildOptions {
  const at = word.indexOf('=');
  const [key, value] = [word.slice(0, Math.max(0, at)), word.slice(at + 1)];
  if (key === '' || value === '') throw new TsrtError('USAGE', `'${word}' is not a change`, { fix: 'write KEY=VALUE, such as fusion=off, threads=2 or without=fuse-conv' });
  switch (key) {
    case 'precision':
      return { ...options, precision: oneOf(key, PRECISIONS, value) };
    case 'fusion':
      return { ...options, fusion: oneOf(key, FUSIONS, value) };
    case 'without':
      return { ...options, disabledPasses: [...new Set([...options.disabledPasses, ...passNames([value], word)])] };
    case 'workspace':
      return { ...options, workspaceBytes: bytesOf(word, value) };
    case 'batch':
      throw new TsrtError('USAGE', 'batch changes the work itself, not only how it is done', { fix: 'compare batches with `tsrt-bench run --batch 1,8`' });
    default:
      return { ...options, backendOptions: { ...options.backendOptions, [key]: scalarOf(value) } };
  }
}

function oneOf<T extends string>(key: string, known: readonly T[], value: string): T {
  const found = known.find((one) => one === value);
  if (found !== undefined) return found;
  const guess = nearest(value, known);
  throw new TsrtError('USAGE', `${key} can't be '${value}'${guess ? `; did you mean '${guess}'?` : ''}`, { fix: `one of ${known.join(', ')}` });
}

function bytesOf(word: string, value: string): number {
  const bytes = Number(value);
  if (Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new TsrtError('USAGE', `'${word}' is not a number of bytes`, { fix: 'for example: workspace=268435456' });
}

/** As on the command line: a boolean, a number, or else the text. */
function scalarOf(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
