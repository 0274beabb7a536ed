/**
 * Names of dimensions that are sums and products of others, as exporters write what they know of a size: `past_sequence_length + sequence_length`,
 * `2*s0`, `(s1 + 1)//2`.
 */

/** A number, a name (`seq-len` and `image/height` are names), an operator or a parenthesis. */
const TOKEN = /\s*(\d+|[A-Za-z_][\w.]*(?:-\w+|\/[A-Za-z_]\w*)*|\/\/|[-+*/()])/y;

type Sizes = (name: string) => number | undefined;

/** The size that the others give; undefined where one of them is missing, where it is none (negative, or a fraction), and for a plain name. */
export function sizeOf(expression: string, sizes: Sizes): number | undefined {
  const tokens = tokensOf(expression);
  if (!tokens) return undefined;
  const value = evaluate(tokens, sizes);
  return value !== undefined && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** The names in it; none for what is no expression. */
export function namesIn(expression: string): readonly string[] {
  return [...new Set((tokensOf(expression) ?? []).filter((token) => /^[A-Za-z_]/.test(token)))];
}

/** Undefined for what is no expression: a single name is one's own symbol, whatever signs are in it. */
function tokensOf(expression: string): readonly string[] | undefined {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  const text = expression.trimEnd();
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (!match) return undefined;
    tokens.push(match[1]!);
  }
  return tokens.length > 1 && evaluate(tokens, () => 1) !== undefined ? tokens : undefined;
}

/** Sums of products of factors. Undefined for what does not parse, or has a name without a size. */
function evaluate(tokens: readonly string[], sizes: Sizes): number | undefined {
  let at = 0;
  const factor = (): number => {
    const token = tokens[at++];
    if (token === '(') {
      const inner = sum();
      return tokens[at++] === ')' ? inner : Number.NaN;
    }
    if (token === undefined || !/^\w/.test(token)) return Number.NaN;
    return /^\d/.test(token) ? Number(token) : (sizes(token) ?? Number.NaN);
  };
  const product = (): number => {
    let value = factor();
    while (tokens[at] === '*' || tokens[at] === '/' || tokens[at] === '//') {
      const operator = tokens[at++];
      const right = factor();
      value = operator === '*' ? value * right : operator === '/' ? value / right : Math.floor(value / right);
    }
    return value;
  };
  function sum(): number {
    let value = product();
    while (tokens[at] === '+' || tokens[at] === '-') value += tokens[at++] === '+' ? product() : -product();
    return value;
  }
  const value = sum();
  return at === tokens.length && !Number.isNaN(value) ? value : undefined;
}
