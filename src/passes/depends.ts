/** What a value is computed from. */
import type { GraphEditor } from '../ir/edit.ts';
import type { ValueId } from '../ir/graph.ts';

/** Whether a value is one of these, or computed from any of them. */
export function dependsOn(id: ValueId, others: ReadonlySet<ValueId>, edit: GraphEditor): boolean {
  const seen = new Set<ValueId>();
  const pending = [id];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (others.has(next)) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    pending.push(...(edit.producer(next)?.inputs.filter(Boolean) ?? []));
  }
  return false;
}
