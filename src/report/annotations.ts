/** GitHub workflow commands: annotations that a job's log turns into marks on the run (docs.github.com, "Workflow commands"). */

export interface Annotation {
  readonly level: 'error' | 'warning' | 'notice';
  readonly title: string;
  readonly message: string;
}

/** GitHub shows ten annotations of a level per step; what lies beyond is folded into the last. */
const SHOWN_PER_LEVEL = 10;

/** `::error title=…::…` lines; one line feed after each. */
export function renderAnnotations(annotations: readonly Annotation[]): string {
  return (['error', 'warning', 'notice'] as const)
    .flatMap((level) => fold(annotations.filter((annotation) => annotation.level === level)))
    .map(({ level, title, message }) => `::${level} title=${escapeProperty(title)}::${escapeData(message)}\n`)
    .join('');
}

function fold(annotations: readonly Annotation[]): readonly Annotation[] {
  const [first] = annotations;
  if (!first || annotations.length <= SHOWN_PER_LEVEL) return annotations;
  const rest = annotations.slice(SHOWN_PER_LEVEL - 1);
  const message = rest.map((annotation) => `${annotation.title}: ${annotation.message}`).join('\n');
  return [...annotations.slice(0, SHOWN_PER_LEVEL - 1), { level: first.level, title: `${rest.length} more`, message }];
}

/** A fold in the log, for what is no annotation. A line that itself looks like a command is kept from being one. */
export function renderGroup(title: string, text: string): string {
  const inert = text.replace(/^([ \t]*)::/gm, '$1:\u200B:');
  return `::group::${escapeData(title)}\n${inert}${inert.endsWith('\n') ? '' : '\n'}::endgroup::\n`;
}

function escapeData(text: string): string {
  return text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
}

function escapeProperty(text: string): string {
  return escapeData(text).replace(/:/g, '%3A').replace(/,/g, '%2C');
}
