/**
 * JSON as one fixed text per value: keys sorted, no spaces, `undefined` members left out. The same engine gives the same
 * bytes, so that a file's hash is the engine's identity. Prior art: RFC 8785 (JSON Canonicalization Scheme), whose number
 * form is ECMAScript's own.
 */

/** Deepest nesting of a header, in either direction; a plan nests about ten deep. */
export const MAX_JSON_DEPTH = 64;

/** Throws a plain Error for what JSON can't hold (NaN, functions, bigint) or nesting beyond MAX_JSON_DEPTH. */
export function canonicalJson(value: unknown, depth = 0): string {
  if (depth > MAX_JSON_DEPTH) throw new Error(`value nests deeper than ${MAX_JSON_DEPTH}`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new Error(`${value} has no JSON form`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, depth + 1)).join(',')}]`;
  if (typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member, depth + 1)}`);
    return `{${members.join(',')}}`;
  }
  throw new Error(`${typeof value} has no JSON form`);
}

/**
 * Parses JSON from an untrusted source: UTF-8 is checked and nesting is bounded before any recursive code sees it.
 * Throws a plain Error whose message says what is wrong.
 */
export function parseBoundedJson(bytes: Uint8Array): unknown {
  checkDepth(bytes);
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN = new Set([0x5b, 0x7b]);
const CLOSE = new Set([0x5d, 0x7d]);

function checkDepth(bytes: Uint8Array): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (OPEN.has(byte)) {
      if (++depth > MAX_JSON_DEPTH + 1) throw new Error(`it nests deeper than ${MAX_JSON_DEPTH}`);
    } else if (CLOSE.has(byte)) depth--;
  }
}
