/** A page under construction: a document without a browser (linkedom), in which every text and attribute is escaped as it is written. */
import { parseHTML } from 'linkedom';

export type Child = Node | string | undefined | false;

export interface Markup {
  readonly document: Document;
  /** An element; attributes that are undefined are left out, `true` is an attribute without a value. */
  h(name: string, attributes?: Attributes, ...children: readonly Child[]): HTMLElement;
}

type Attributes = Readonly<Record<string, string | number | true | undefined>>;

export function createMarkup(): Markup {
  const { document } = parseHTML('<!doctype html><html lang="en"><head></head><body></body></html>');
  const h: Markup['h'] = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value === true ? '' : String(value));
    element.append(...children.filter((child) => child !== undefined && child !== false));
    return element;
  };
  return { document, h };
}

/** A table with heads; cells of numbers stand on the right. */
export function tableOf({ h }: Markup, caption: string, heads: readonly string[], rows: readonly (readonly Child[])[], numbers: ReadonlySet<number>): HTMLElement {
  const side = (index: number) => (numbers.has(index) ? 'number' : undefined);
  const cells = (row: readonly Child[]) => row.map((cell, index) => (index === 0 ? h('th', { scope: 'row' }, cell) : h('td', { class: side(index) }, cell)));
  return scrollable({ h }, caption, h('table', {},
    h('caption', {}, caption),
    h('thead', {}, h('tr', {}, ...heads.map((head, index) => h('th', { scope: 'col', class: side(index) }, head)))),
    h('tbody', {}, ...rows.map((row) => h('tr', {}, ...cells(row)))),
  ));
}

/** What may be wider than the screen scrolls by itself, by the keyboard too. */
export function scrollable({ h }: Pick<Markup, 'h'>, label: string, content: Node): HTMLElement {
  return h('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: 0 }, content);
}

/** A name that may be broken behind each slash. */
export function breakable({ document, h }: Markup, name: string): Node {
  const parts = document.createDocumentFragment();
  name.split('/').forEach((part, index) => parts.append(...(index === 0 ? [part] : ['/', h('wbr'), part])));
  return parts;
}
