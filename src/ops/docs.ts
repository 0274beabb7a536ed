/**
 * The op table as rows for the documentation, so that the page cannot drift from the code.
 */
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
