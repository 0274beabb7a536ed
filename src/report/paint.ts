/** Terminal colours, or none: the caller knows whether they are wanted (NO_COLOR, a pipe). */

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

export type Paint = (style: keyof typeof CODES, text: string) => string;

export function createPaint(color: boolean): Paint {
  return (style, text) => (color ? `\u001B[${CODES[style]}m${text}\u001B[0m` : text);
}
