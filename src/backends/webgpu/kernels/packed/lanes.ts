/**
 * Products in plain WGSL: each invocation holds a tile of results. Halves are unpacked to f32; bytes are multiplied four at a
 * time by dot4I8Packed, which is exact. It runs on every adapter.
 */
import type { Block } from '../../wgsl/module.ts';
import type { Engine, Geometry } from './engine.ts';

const COMPONENTS = ['x', 'y', 'z', 'w'] as const;

export function lanesEngine({ tactic, element, pitch, slab, bBegin }: Geometry): Engine {
  const { bm, bn, bk, sm, sn, slices } = tactic;
  // Invocations along columns and rows; each takes every ty-th row and every tx-th group of four columns.
  const [tx, ty] = [bn / sn, bm / sm];
  const quads = sn / 4;
  const acc = (i: number, j: number): string => `acc${i}_${j}`;
  const zero = element === 'f16' ? 'vec4<f32>()' : 'vec4<i32>()';
  const perRound = sm / slab.rounds;
  return {
    // Columns of one number in their group of four lie together: neighbouring invocations read neighbouring rows.
    columnSlot: (column) => `((${column} % 4u) * ${bn / 4}u + ${column} / 4u)`,
    subgroupSize: undefined,
    declare: () => undefined,
    begin(block) {
      const flat = slices === 1 ? 'lid' : block.let('cell', `lid / ${slices}u`);
      if (slices > 1) block.let('slice', `lid % ${slices}u`);
      block.let('tx', `${flat} % ${tx}u`);
      block.let('ty', `${flat} / ${tx}u`);
      for (let i = 0; i < sm; i++) for (let j = 0; j < quads; j++) block.var(acc(i, j), zero);
    },
    hold: () => {
      throw new Error('lanes keep no rows');
    },
    clear(block) {
      for (let i = 0; i < sm; i++) for (let j = 0; j < quads; j++) block.line(`${acc(i, j)} = ${zero}`);
    },
    multiply(block, base) {
      block.for('q', slices === 1 ? '0u' : 'slice', `${bk}u`, `${slices}u`, (inner) => {
        for (let i = 0; i < sm; i++) loadVector(inner, element, `m${i}`, `${base}(ty + ${i * ty}u) * ${pitch}u + q`);
        for (let j = 0; j < quads; j++) {
          for (const [lane, component] of COMPONENTS.entries()) {
            const n = `n${j}_${lane}`;
            loadVector(inner, element, n, `${base}(tx + ${lane * (bn / 4) + j * tx}u) * ${pitch}u + q + ${bBegin}u`);
            for (let i = 0; i < sm; i++) inner.line(`${acc(i, j)}.${component} += ${dot(element, `m${i}`, n)}`);
          }
        }
      });
    },
    spill(block, round) {
      const first = slices === 1 ? '' : `slice * ${slab.rows * slab.pitch}u + `;
      for (let i = 0; i < perRound; i++) {
        for (let j = 0; j < quads; j++) {
          const at = `${first}(ty + ${i * ty}u) * ${slab.pitch}u + tx + ${j * tx}u`;
          block.line(`tile[${at}] = bitcast<vec4<u32>>(${acc(round * perRound + i, j)})`);
        }
      }
    },
    run: { rows: slab.rows, step: slab.rows },
  };
}

/** Emits a staged vector's elements: two vec4<f32> of halves, or four words of bytes. */
function loadVector(block: Block, element: 'f16' | 'i8', name: string, at: string): void {
  block.let(name, `tile[${at}]`);
  if (element === 'i8') return;
  block.let(`${name}_0`, `vec4<f32>(unpack2x16float(${name}.x), unpack2x16float(${name}.y))`);
  block.let(`${name}_1`, `vec4<f32>(unpack2x16float(${name}.z), unpack2x16float(${name}.w))`);
}

function dot(element: 'f16' | 'i8', a: string, b: string): string {
  if (element === 'f16') return `dot(${a}_0, ${b}_0) + dot(${a}_1, ${b}_1)`;
  return COMPONENTS.map((c) => `dot4I8Packed(${a}.${c}, ${b}.${c})`).join(' + ');
}
