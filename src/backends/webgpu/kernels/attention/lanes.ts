/** Attention's products in plain WGSL: an invocation holds a tile of results in f32. It runs on every adapter. */
import type { Block } from '../../wgsl/module.ts';
import type { AttentionEngine, AttentionGeometry } from './engine.ts';

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

export function lanesAttention({ tactic, memory, element, depthV }: AttentionGeometry): AttentionEngine {
  const { bq, bk, down, across } = tactic;
  const { keyVectors, valueVectors, keyPitch, valuePitch, scorePitch, blockBegin, queryBegin } = memory;
  /** Rows, groups of four keys, and vectors of values of an invocation. */
  const [rows, fours, vectors] = [bq / down, bk / 4 / across, Math.ceil(valueVectors / across)];
  /** Groups of four in a vector. */
  const groups = element === 'f16' ? 2 : 1;
  const acc = (i: number, j: number, g: number): string => `acc${i}_${j}_${g}`;
  const load = (block: Block, name: string, at: string): void => {
    block.let(name, `tile[${at}]`);
    for (const g of range(groups)) {
      const value = element === 'f32' ? `bitcast<vec4<f32>>(${name})` : `vec4<f32>(unpack2x16float(${name}.${'xz'[g]}), unpack2x16float(${name}.${'yw'[g]}))`;
      block.let(`${name}_${g}`, value);
    }
  };
  const eachResult = (visit: (name: string, i: number, j: number, g: number) => void): void => {
    for (const i of range(rows)) for (const j of range(vectors)) for (const g of range(groups)) visit(acc(i, j, g), i, j, g);
  };
  /** Number of a value's vector; the last ones may lie beyond the row. */
  const vectorAt = (j: number): string => (valueVectors % across === 0 ? `tx + ${j * across}u` : `min(tx + ${j * across}u, ${valueVectors - 1}u)`);
  return {
    // Keys of one number in their group of four lie together: neighbouring invocations read neighbouring rows.
    keySlot: (key) => `((${key} % 4u) * ${bk / 4}u + ${key} / 4u)`,
    halfWeights: false,
    rareScaling: false,
    subgroupSize: undefined,
    declare: () => undefined,
    begin(block) {
      block.let('tx', `lid % ${across}u`);
      block.let('ty', `lid / ${across}u`);
      eachResult((name) => block.var(name, 'vec4<f32>()'));
    },
    scores(block) {
      for (const i of range(rows)) for (const j of range(fours)) block.var(`s${i}_${j}`, 'vec4<f32>()');
      block.for('d', '0u', `${keyVectors}u`, '1u', (loop) => {
        for (const i of range(rows)) load(loop, `q${i}`, `${queryBegin}u + (ty + ${i * down}u) * ${keyPitch}u + d`);
        for (const j of range(fours)) {
          for (const lane of range(4)) {
            const key = `k${j}_${lane}`;
            load(loop, key, `${blockBegin}u + (tx + ${lane * (bk / 4) + j * across}u) * ${keyPitch}u + d`);
            for (const i of range(rows)) loop.line(`s${i}_${j}.${'xyzw'[lane]} += ${range(groups).map((g) => `dot(q${i}_${g}, ${key}_${g})`).join(' + ')}`);
          }
        }
      });
      for (const i of range(rows)) for (const j of range(fours)) block.line(`tile[(ty + ${i * down}u) * ${scorePitch}u + tx + ${j * across}u] = bitcast<vec4<u32>>(s${i}_${j})`);
    },
    rescale(block) {
      for (const i of range(rows)) block.let(`f${i}`, `factor[ty + ${i * down}u]`);
      eachResult((name, i) => block.line(`${name} *= f${i}`));
    },
    accumulate(block) {
      block.for('key', '0u', `${bk}u`, '4u', (loop) => {
        for (const i of range(rows)) loop.let(`p${i}`, `bitcast<vec4<f32>>(tile[(ty + ${i * down}u) * ${scorePitch}u + key / 4u])`);
        for (const lane of range(4)) {
          for (const j of range(vectors)) {
            load(loop, `v${lane}_${j}`, `${blockBegin}u + (key + ${lane}u) * ${valuePitch}u + ${vectorAt(j)}`);
            for (const i of range(rows)) for (const g of range(groups)) loop.line(`${acc(i, j, g)} += p${i}.${'xyzw'[lane]} * v${lane}_${j}_${g}`);
          }
        }
      });
    },
    finish(block, visit) {
      eachResult((name, i, j, g) => {
        const column = `(tx + ${j * across}u) * ${groups * 4}u + ${g * 4}u`;
        const emit = (inside: Block): void => visit(inside, `(ty + ${i * down}u)`, `(${column})`, name);
        if (valueVectors % across === 0 && depthV === valueVectors * groups * 4) emit(block);
        else block.if(`${column} < ${depthV}u`, emit);
      });
    },
  };
}
