import { describe, expect, it } from 'vitest';
import { printNode } from '../../../src/ir/print.ts';
import { fuseCacheWrites } from '../../../src/passes/fuse-cache-writes.ts';
import { fuseConcat } from '../../../src/passes/fuse-concat.ts';
import type { Pass } from '../../../src/passes/pass.ts';
import { VIEWS } from '../../../src/passes/reshapes.ts';
import { applyPass, expectSame, optimize } from '../../helpers/passes.ts';
import { cacheWrites, FORMS } from '../../helpers/rotations.ts';
import { sketch, type Sketch, testRows } from '../../helpers/rules.ts';

/** Both passes: what joins expressions, and what widens them. */
const passes: Pass = {
  ...fuseCacheWrites,
  async run(graph, context) {
    return fuseCacheWrites.run((await fuseConcat.run(graph, context)).graph, context);
  },
};

/** x·t beside u·t. */
const joined = ({ b }: Sketch, axis: number, x: string, u: string, t: string): string => b.node('Concat', [x, u].map((part) => b.node('Mul', [part, t], {})), { axis });
const add = ({ b }: Sketch, ...terms: [string, string]): string => b.node('Add', terms, {});
const shaped = ({ b, ints }: Sketch, x: string, ...dims: number[]): string => b.node('Reshape', [x, ints(...dims)], { allowzero: 0 });
const computed = (s: Sketch, ...dims: number[]): string => s.b.node('Exp', [s.x(...dims)], {});

describe('joined expressions', () => {
  testRows(passes, [
    ['that a reader widens', (s) => add(s, joined(s, 1, s.x(2, 4), s.x(2, 4), s.x(1, 4)), s.x(3, 2, 8)), 'Slice Slice FusedConcat'],
    ['that a reader widens behind a view', (s) => add(s, shaped(s, joined(s, 2, s.x(1, 2, 4), s.x(1, 2, 4), s.x(1, 4)), 2, 1, 8), s.x(2, 5, 8)), 'Reshape Reshape Slice Slice FusedConcat'],
    ['that a view takes apart', (s) => add(s, shaped(s, joined(s, 1, s.x(2, 4), s.x(2, 4), s.x(1, 4)), 2, 2, 4), s.x(3, 2, 2, 4)), 'FusedConcat Reshape Add'],
    ['that two read', (s) => { const y = joined(s, 1, s.x(2, 4), s.x(2, 4), s.x(1, 4)); return [add(s, y, s.x(3, 2, 8)), s.b.node('Softmax', [y], { axis: 1 })]; }, 'FusedConcat Add Softmax'],
    ['that are an output', (s) => { const y = joined(s, 1, s.x(2, 4), s.x(2, 4), s.x(1, 4)); return [y, add(s, y, s.x(3, 2, 8))]; }, 'FusedConcat Add'],
    ['that a product reads', (s) => s.b.node('MatMul', [joined(s, 1, s.x(2, 4), s.x(2, 4), s.x(1, 4)), s.x(8, 3)], {}), 'FusedConcat MatMul'],
    ['that a very large expression reads', (s) => add(s, joined(s, 1, s.x(1, 4), s.x(1, 4), s.x(1, 4)), s.b.node('Expand', [s.x(1, 1), s.ints(2 ** 19 + 1, 8)], {})), 'FusedConcat Expand Add'],
    ['beside what reads the same', (s) => { const t = computed(s, 1, 4); return [joined(s, 1, s.x(2, 4), s.x(2, 4), t), add(s, t, s.x(3, 4))]; }, 'Exp FusedConcat'],
    ['beside what reads the same constant', (s) => { const t = s.w(1, 4); return [joined(s, 1, s.x(2, 4), s.x(2, 4), t), add(s, t, s.x(3, 4))]; }, 'FusedConcat Add'],
    ['beside what waits for them', (s) => { const t = computed(s, 1, 4); const y = joined(s, 1, s.x(2, 4), s.x(2, 4), t); return add(s, t, s.b.node('Softmax', [s.b.node('Slice', [y, s.ints(0), s.ints(4), s.ints(1)], {})], { axis: 1 })); }, 'Exp FusedConcat Slice Softmax Add'],
    ['beside what they wait for', (s) => { const t = computed(s, 1, 4); return joined(s, 1, s.b.node('Softmax', [add(s, t, s.x(2, 4))], { axis: 1 }), s.x(2, 4), t); }, 'Exp Add Softmax FusedConcat'],
  ]);

  it('say what they compute', async () => {
    const graph = sketch((s) => {
      const [x, u, t] = [s.x(1, 2, 4), s.x(1, 2, 4), computed(s, 4)];
      return [add(s, shaped(s, joined(s, 2, x, u, t), 2, 1, 8), s.x(2, 3, 8)), add(s, t, s.x(2, 4))];
    });
    const { graph: fused } = await applyPass(passes, graph);
    expect(printNode(fused, fused.nodes.at(-1)!)).toMatchInlineSnapshot(`"Add_5: float32[2,3,8], Add_6: float32[2,4] = FusedConcat(x_viewed, Exp_0, x1_viewed, x3_part, x3_part_1, x4) {joined=[axis 2: [0:4] ((x0 * x1) + x3), [4:8] ((x2 * x1) + x4); axis 1: [0:4] (x1 + x5)]} @Concat_3 <- Mul_1 Mul_2 Concat_3 Reshape_4 Add_5 Add_6"`);
  });
});

describe('a token on its way into caches', () => {
  it.each(FORMS)('%s: queries, keys and values are one kernel', async (form) => {
    const before = cacheWrites(form, 2);
    const { graph } = await optimize(before, 'webgpu');
    const kernels = graph.nodes.map(({ op }) => op).filter((op) => op !== 'Slice' && !VIEWS.has(op));
    expect(kernels).toEqual(['FusedConcat']);
    await expectSame(before, graph);
  });
});
