/** Values of flags that oclif does not parse: KEY=VALUE pairs, sizes, tolerances. All throw TsrtError USAGE. */
import { TsrtError } from '../errors.ts';

type Scalar = string | number | boolean;

/** `['threads=2', 'spinning=false']` as a record; of a key given twice, the last counts. */
export function parsePairs(flag: string, words: readonly string[] | undefined, example = 'threads=2'): Record<string, Scalar> {
  const pairs = (words ?? []).map((word): [string, Scalar] => {
    const at = word.indexOf('=');
    if (at < 1) throw new TsrtError('USAGE', `${flag} takes KEY=VALUE, found '${word}'`, { fix: `for example: ${flag} ${example}` });
    return [word.slice(0, at), parseScalar(word.slice(at + 1))];
  });
  return Object.fromEntries(pairs);
}

/** A boolean, a number, or else the text. */
export function parseScalar(text: string): Scalar {
  if (text === 'true' || text === 'false') return text === 'true';
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** Sizes of dimensions by name. */
export function parseSizes(flag: string, words: readonly string[] | undefined): Record<string, number> {
  const sizes: Record<string, number> = {};
  for (const [name, size] of Object.entries(parsePairs(flag, words, 'sequence=128'))) {
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
      throw new TsrtError('USAGE', `${flag} takes NAME=N with a whole number, found '${name}=${String(size)}'`, {
        fix: `for example: ${flag} sequence=128`,
      });
    }
    sizes[name] = size;
  }
  return sizes;
}

/** Shapes of inputs by name: `['image=1x3x224x224']`. */
export function parseShapes(flag: string, words: readonly string[] | undefined): Record<string, readonly number[]> {
  const shapes = (words ?? []).map((word): [string, number[]] => {
    const [, name, sizes] = /^(.+)=(\d+(?:x\d+)*)$/.exec(word) ?? [];
    if (name === undefined || sizes === undefined) {
      throw new TsrtError('USAGE', `${flag} takes INPUT=AxBxC, found '${word}'`, { fix: `for example: ${flag} image=1x3x224x224` });
    }
    return [name, sizes.split('x').map(Number)];
  });
  return Object.fromEntries(shapes);
}

export function parseTolerance(flag: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (value.trim() !== '' && number >= 0) return number;
  throw new TsrtError('USAGE', `${flag} takes a number of 0 or more, found '${value}'`, { fix: `for example: ${flag} 1e-3` });
}

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Bytes of `512`, `64KiB`, `256MiB`, `1.5GiB`; K, M and G count in powers of 1,024 with or without `iB`. */
export function parseBytes(flag: string, value: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?$/i.exec(value.trim());
  const bytes = match ? Math.floor(Number(match[1]) * (UNIT_BYTES[match[2]?.toUpperCase() ?? ''] ?? 0)) : 0;
  if (bytes > 0) return bytes;
  throw new TsrtError('USAGE', `${flag} takes a size, found '${value}'`, { fix: `for example: ${flag} 256MiB` });
}
