/**
 * Einsum equations, as NumPy and ONNX write them: one letter per axis, `...` for broadcast axes, an implicit output of
 * the letters that occur once, in alphabetical order.
 */
import type { Dims } from '../ir/tensor.ts';
import { ShapeError } from './def.ts';
import { broadcast } from './shapes.ts';

export interface Einsum {
  /** Labels of every operand's axes; ellipsis axes are `.0`, `.1` …, counted from the last one backward. */
  readonly operands: readonly (readonly string[])[];
  readonly output: readonly string[];
  /** Size of every label. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** Labels of a term over `rank` axes; for the output, `ellipsisRank` says how many axes `...` stands for. */
function labelsOf(term: string, ellipsisRank: (letters: number) => number): string[] {
  const match = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(term);
  if (!match) throw new ShapeError(`attribute 'equation' has a malformed term '${term}'`);
  const [, before = '', dots, after = ''] = match;
  const rank = dots ? ellipsisRank(before.length + after.length) : 0;
  const ellipsis = Array.from({ length: Math.max(0, rank) }, (_, i) => `.${rank - 1 - i}`);
  return [...before, ...ellipsis, ...after];
}

/** Labels and sizes of an equation over operands of these shapes. Throws ShapeError where they do not fit. */
export function parseEinsum(equation: string, shapes: readonly Dims[]): Einsum {
  const [left = '', right, ...more] = equation.replaceAll(' ', '').split('->');
  const terms = left.split(',');
  if (more.length > 0) throw new ShapeError(`attribute 'equation' has more than one '->': '${equation}'`);
  if (terms.length !== shapes.length) {
    throw new ShapeError(`attribute 'equation' names ${terms.length} operands, the node has ${shapes.length}`);
  }
  const operands = terms.map((term, i) => operandLabels(term, shapes[i]!, i));
  const sizes = sizesOf(operands, shapes);
  const ellipsisRank = Math.max(0, ...operands.map((labels) => labels.filter((label) => label.startsWith('.')).length));
  const output = right === undefined ? implicitOutput(operands, ellipsisRank) : labelsOf(right, () => ellipsisRank);
  for (const label of output) if (!sizes.has(label)) throw new ShapeError(`output label '${label}' is not among the operands' labels`);
  if (new Set(output).size !== output.length) throw new ShapeError(`attribute 'equation' repeats an output label: '${equation}'`);
  return { operands, output, sizes };
}

function operandLabels(term: string, dims: Dims, index: number): string[] {
  const labels = labelsOf(term, (letters) => dims.length - letters);
  if (labels.length !== dims.length) {
    throw new ShapeError(`input ${index} must have rank ${labels.length} to match term '${term}', found [${dims.join(',')}]`);
  }
  return labels;
}

function sizesOf(operands: readonly (readonly string[])[], shapes: readonly Dims[]): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const [i, labels] of operands.entries()) {
    for (const [axis, label] of labels.entries()) {
      const size = shapes[i]![axis]!;
      const merged = broadcast([sizes.get(label) ?? 1], [size])[0]!;
      sizes.set(label, merged);
    }
  }
  return sizes;
}

function implicitOutput(operands: readonly (readonly string[])[], ellipsisRank: number): string[] {
  const counts = new Map<string, number>();
  for (const label of operands.flat()) counts.set(label, (counts.get(label) ?? 0) + 1);
  const letters = [...counts].filter(([label, count]) => count === 1 && !label.startsWith('.')).map(([label]) => label);
  return [...Array.from({ length: ellipsisRank }, (_, i) => `.${ellipsisRank - 1 - i}`), ...letters.sort()];
}
