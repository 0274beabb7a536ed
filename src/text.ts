/** Text files that people edit: some editors of Windows put a byte order mark before the first letter, which no parser of JSON takes. */
import { readFile } from 'node:fs/promises';

const BYTE_ORDER_MARK = '\uFEFF';

export async function readTextFile(file: string): Promise<string> {
  return withoutMark(await readFile(file, 'utf8'));
}

/** Of decoded UTF-8. */
export function withoutMark(text: string): string {
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(BYTE_ORDER_MARK.length) : text;
}
