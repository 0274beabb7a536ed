/**
 * The op table as rows for the documentation, so that the page cannot drift from the code.
 */
import { REFERENCE_OPSET } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import type { OpDef } from './def.ts';
import { FAMILIES, OPS } from './table.ts';

export interface OpRow {
  readonly op: OpKind;
  readonly domain: OpDef<OpKind>['domain'];
  /** First opset that has the op. */
  readonly since: number;
  readonly family: string;
}

/** Ops that models may contain, by family, then by name. */
export function opTableRows(): readonly OpRow[] {
  return Object.entries(FAMILIES).flatMap(([family, defs]) =>
    (Object.keys(defs) as OpKind[])
      .sort()
      .map((op) => ({ op, domain: OPS[op].domain, since: OPS[op].since, family }))
      .filter((row) => row.domain !== 'internal' && row.domain !== 'custom'),
  );
}

/** docs/operators.md: what the intermediate representation holds, and `translated`, ops that are read as others. */
export function operatorsPage(translated: readonly string[]): string {
  const rows = opTableRows();
  const families = [...new Set(rows.map((row) => row.family))];
  const lines = [
    '# Operators',
    '',
    `The table lists the ${rows.length} operators that the intermediate representation holds, with the first opset of each. Models of older opsets are read as opset ${REFERENCE_OPSET}. Each operator has a kernel on \`webgpu\`, and runs on \`onnxruntime\`. If a kernel lacks an attribute or type, the build names the node and says so.`,
    '',
    'When a model has something that is not listed, the build names it. This concerns Scan, Loop and If (unless the number of iterations, or the branch, is known at build), sequences of unknown length, strings, and whatever follows a data-dependent length. In that case:',
    '',
    "- The `onnxruntime` backend runs the model's own bytes.",
    '- `webgpu` with `--fallback onnxruntime` runs everything that does not depend on it.',
    '- `webgpu` without a fallback skips the variant, and gives the reason.',
    '',
    `These are read as others of the table: ${translated.join(', ')}.`,
    '',
    'Sizes of windows, frames and transforms must be known at build. DFT and STFT are products with constants of up to 2²³ elements, and Det has up to four rows. Larger ones stay as they are and run in onnxruntime.',
    '',
    'This page is written by `node scripts/write-operators.mjs` from the op table.',
  ];
  for (const family of families) {
    lines.push('', `## ${family}`, '', '| operator | domain | since opset |', '|---|---|---:|');
    for (const row of rows.filter((each) => each.family === family)) lines.push(`| ${row.op} | ${row.domain || 'ai.onnx'} | ${row.since} |`);
  }
  return `${lines.join('\n')}\n`;
}
