/** Code blocks of a document: those with `file=NAME` are files, those in `sh` commands. */

export interface Fence {
  readonly language: string;
  readonly file: string | undefined;
  readonly text: string;
  readonly line: number;
}

export function fencesOf(markdown: string): Fence[] {
  return [...markdown.matchAll(/^```(\w*)(?: file=(\S+))?\n(.*?)^```$/gms)].map((match) => ({
    language: match[1]!,
    file: match[2],
    text: match[3]!,
    line: markdown.slice(0, match.index).split('\n').length,
  }));
}
