/** What each layer of a plan must move at least: its operands as they are stored, each once. */
import type { EngineLayer } from '../../engine/engine.ts';
import type { Plan } from '../../engine/plan.ts';

/**
 * Bytes by layer. What a layer writes and reads again is left out, since another kernel might not need it; of a window the whole is
 * bound, so that no more is counted than the layer's values take in their own types.
 */
export function trafficOf(plan: Plan, layers: readonly Pick<EngineLayer, 'bytes'>[]): number[] {
  const read = layers.map(() => new Map<string, number>());
  const written = layers.map(() => new Map<string, number>());
  for (const step of plan.steps) {
    if (step.kind !== 'dispatch') continue;
    for (const [i, { buffer, offset, bytes }] of step.bindings.entries()) {
      const side = plan.shaders[step.shader]!.access[i] === 'read_write' ? written : read;
      side[step.layer]!.set(`${buffer}:${offset}`, bytes);
    }
  }
  return layers.map(({ bytes: own }, layer) => {
    const [reads, writes] = [read[layer]!, written[layer]!];
    const sum = (side: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): number => [...side].reduce((total, [key, bytes]) => total + (other.has(key) ? 0 : bytes), 0);
    const moved = sum(reads, writes) + sum(writes, reads);
    return own > 0 ? Math.min(own, moved) : moved;
  });
}
