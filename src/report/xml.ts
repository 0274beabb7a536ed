/** A little XML: elements as data, escaped when they are written. */

export interface XmlElement {
  readonly name: string;
  /** Undefined attributes are left out. */
  readonly attributes: Readonly<Record<string, string | number | undefined>>;
  readonly children: readonly (XmlElement | string)[];
}

/** A document with its declaration, indented; ends with a line feed. */
export function renderXml(root: XmlElement): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${renderElement(root, '')}`;
}

function renderElement({ name, attributes, children }: XmlElement, indent: string): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escapeXml(String(value))}"`)
    .join('');
  if (children.length === 0) return `${indent}<${name}${written}/>\n`;
  if (children.every((child) => typeof child === 'string')) return `${indent}<${name}${written}>${children.map(escapeXml).join('')}</${name}>\n`;
  const inner = children.map((child) => (typeof child === 'string' ? `${indent}  ${escapeXml(child)}\n` : renderElement(child, `${indent}  `)));
  return `${indent}<${name}${written}>\n${inner.join('')}${indent}</${name}>\n`;
}

/** Characters that XML 1.0 (§2.2) can't hold, not even escaped: controls, lone surrogates, U+FFFE and U+FFFF. */
const FORBIDDEN = /[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu;

export function escapeXml(text: string): string {
  return text
    .replace(FORBIDDEN, '\u{FFFD}')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/\r/g, '&#13;')
    .replace(/\n/g, '&#10;')
    .replace(/\t/g, '&#9;');
}
