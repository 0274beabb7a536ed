/** A strict little XML reader for tests: throws on anything that is not well-formed, gives the element tree otherwise. */

export interface XmlNode {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (XmlNode | string)[];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
// eslint-disable-next-line no-control-regex -- these are what XML 1.0 forbids
const FORBIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/** Reads a document of elements, attributes in double quotes, text and the five entities: all that we write. */
export function parseXml(document: string): XmlNode {
  if (FORBIDDEN.test(document)) throw new Error('a character that XML forbids');
  const declaration = /^<\?xml version="1\.0" encoding="UTF-8"\?>\s*/.exec(document);
  if (!declaration) throw new Error('no declaration');
  const { node, end } = readElement(document, declaration[0].length);
  if (document.slice(end).trim() !== '') throw new Error('text after the root');
  return node;
}

function readElement(text: string, start: number): { readonly node: XmlNode; readonly end: number } {
  const open = /<([A-Za-z][\w-]*)((?: [\w-]+="[^"<]*")*)(\/?)>/y;
  open.lastIndex = start;
  const match = open.exec(text);
  if (!match) throw new Error(`no element at ${start}: ${text.slice(start, start + 40)}`);
  const [, name = '', written = '', empty] = match;
  const attributes: Record<string, string> = {};
  for (const [, key = '', value = ''] of written.matchAll(/ ([\w-]+)="([^"]*)"/g)) {
    if (key in attributes) throw new Error(`attribute ${key} twice`);
    attributes[key] = unescape(value);
  }
  const children: (XmlNode | string)[] = [];
  let at = open.lastIndex;
  if (empty) return { node: { name, attributes, children }, end: at };
  while (!text.startsWith('</', at)) {
    const next = text.indexOf('<', at);
    if (next === -1) throw new Error(`${name} is not closed`);
    if (next > at) {
      const words = unescape(text.slice(at, next));
      if (words.trim() !== '') children.push(words);
      at = next;
      continue;
    }
    const child = readElement(text, at);
    children.push(child.node);
    at = child.end;
  }
  const close = `</${name}>`;
  if (!text.startsWith(close, at)) throw new Error(`${name} is closed by ${text.slice(at, at + 20)}`);
  return { node: { name, attributes, children }, end: at + close.length };
}

function unescape(text: string): string {
  if (text.includes('>')) throw new Error('a bare >');
  return text.replace(/&([^;&]*;?)/g, (_, entity: string) => {
    const code = /^#(\d+);$/.exec(entity)?.[1];
    const known = code === undefined ? ENTITIES[entity.replace(/;$/, '')] : String.fromCodePoint(Number(code));
    if (known === undefined || !entity.endsWith(';')) throw new Error(`no entity: &${entity}`);
    return known;
  });
}
