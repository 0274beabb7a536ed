/** What to beware of, and what has no numbers. */
import { plural } from '../units.ts';
import type { unmeasuredGroups } from '../rows.ts';
import type { ReportWarning } from '../warnings.ts';
import type { Markup } from './markup.ts';

/** Case ids that stand beside a remark; more are folded. */
const SHOWN = 3;

export function warningList(markup: Markup, warnings: readonly ReportWarning[]): HTMLElement {
  const { h } = markup;
  return h('ul', { class: 'remarks' }, ...warnings.map(({ kind, sentence, advice, cases }) =>
    h('li', { class: kind === 'note' ? 'note' : 'warning' },
      h('strong', {}, kind === 'note' ? 'Note' : 'Warning'), ` ${sentence}`,
      advice !== undefined && h('p', {}, `What helps: ${advice}.`),
      casesOf(markup, cases),
    )));
}

export function unmeasuredList(markup: Markup, groups: ReturnType<typeof unmeasuredGroups>): HTMLElement {
  const { h } = markup;
  return h('ul', { class: 'remarks' }, ...groups.map((group) => {
    const [{ status, reason, fix }] = group;
    return h('li', { class: status }, h('strong', {}, status), ` ${reason}`, fix !== undefined && h('p', {}, `Fix: ${fix}`), casesOf(markup, group.map(({ caseId }) => caseId)));
  }));
}

function casesOf({ h }: Markup, cases: readonly string[]): HTMLElement {
  if (cases.length <= SHOWN) return h('p', { class: 'cases' }, cases.join(', '));
  return h('details', { class: 'cases' }, h('summary', {}, plural(cases.length, 'case')), h('ul', {}, ...cases.map((id) => h('li', {}, id))));
}
