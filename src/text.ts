/**
 * Text that people edit and paste. Some editors of Windows put a byte order mark before the first letter of a file, which no parser of JSON takes.
 */
import { readFile } from 'node:fs/promises';

const BYTE_ORDER_MARK = '\uFEFF';

export async function readTextFile(file: string): Promise<string> {
  return withoutMark(await readFile(file, 'utf8'));
}

/** Of decoded UTF-8. */
export function withoutMark(text: string): string {
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(BYTE_ORDER_MARK.length) : text;
}

/** A word as a shell takes it back. */
export function shellWord(word: string): string {
  return /[^\w./@:+-]/.test(word) ? `'${word.replaceAll("'", `'\\''`)}'` : word;
}
