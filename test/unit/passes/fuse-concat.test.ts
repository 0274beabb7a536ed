import { describe, expect, it } from 'vitest';
import { printNode } from '../../../src/ir/print.ts';
import { fuseConcat } from '../../../src/passes/fuse-concat.ts';
import { VIEWS } from '../../../src/passes/reshapes.ts';
import { applyPass, expectSame, optimize } from '../../helpers/passes.ts';
import { FORMS, rotations } from '../../helpers/rotations.ts';
import { sketch, type Sketch, testRows } from '../../helpers/rules.ts';

const half = ({ b, ints }: Sketch, x: string, start: number): string => b.node('Slice', [x, ints(start), ints(start + 4), ints(1)], {});
const neg = ({ b }: Sketch, x: string): string => b.node('Neg', [x], {});
const join = ({ b }: Sketch, ...parts: string[]): string => b.node('Concat', parts, { axis: 1 });
const column = ({ b, ints }: Sketch, x: string): string => b.node('Unsqueeze', [x, ints(-1)], {});
const flat = ({ b, ints }: Sketch, x: string, ...dims: number[]): string => b.node('Reshape', [x, ints(...dims)], { allowzero: 0 });
const scores = (s: Sketch): string => s.b.node('Softmax', [s.x(2, 4)], { axis: 1 });

describe('concatenations of expressions', () => {
  testRows(fuseConcat, [
    ['with a part that is computed', (s) => { const x = s.x(2, 8); return join(s, neg(s, half(s, x, 4)), half(s, x, 0)); }, 'Slice Slice FusedConcat'],
    ['of computed parts alone', (s) => join(s, neg(s, s.x(2, 4)), s.b.node('Exp', [s.x(2, 3)], {})), 'FusedConcat'],
    ['of a part that broadcasts', (s) => join(s, s.b.node('Add', [s.x(2, 1), s.x(1, 4)], {}), s.x(2, 3)), 'FusedConcat'],
    ['that nobody computes', (s) => { const x = s.x(2, 8); return join(s, half(s, x, 4), half(s, x, 0)); }, 'Slice Slice Concat'],
    ['with the op that reads it', (s) => { const x = s.x(2, 8); return neg(s, join(s, half(s, x, 4), half(s, x, 0))); }, 'Slice Slice FusedConcat'],
    ['with operands of the op that reads it', (s) => { const x = s.x(2, 8); return s.b.node('Mul', [join(s, half(s, x, 4), half(s, x, 0)), x], {}); }, 'Slice Slice FusedConcat'],
    ['with an operand that is not cut yet', (s) => s.b.node('Mul', [join(s, neg(s, s.x(2, 4)), s.x(2, 4)), s.x(8)], {}), 'Slice Slice FusedConcat'],
    ['inside of another one', (s) => join(s, neg(s, join(s, neg(s, s.x(2, 4)), s.x(2, 4))), s.x(2, 3)), 'FusedConcat'],
    ['of a kernel that writes into place', (s) => join(s, neg(s, s.x(2, 4)), scores(s)), 'Neg Softmax Concat'],
    ['whose part is read elsewhere', (s) => { const y = neg(s, s.x(2, 4)); return [y, join(s, y, s.x(2, 4))]; }, 'Neg Concat'],
    ['whose part comes twice', (s) => { const y = neg(s, s.x(2, 4)); return join(s, y, y); }, 'Neg Concat'],
    ['that is an output too', (s) => { const y = join(s, neg(s, s.x(2, 4)), s.x(2, 4)); return [y, neg(s, y)]; }, 'FusedConcat Neg'],
    ['that the op which reads it widens', (s) => s.b.node('Add', [join(s, neg(s, s.x(2, 4)), s.x(2, 4)), s.x(3, 1, 1)], {}), 'FusedConcat Add'],
    ['of more tensors than a kernel binds', (s) => join(s, neg(s, s.x(2, 4)), ...Array.from({ length: 7 }, () => s.x(2, 4))), 'Neg Concat'],
    ['of which one part is empty', (s) => join(s, neg(s, s.x(2, 4)), s.x(2, 0)), 'Neg Concat'],
    ['of nothing', (s) => join(s, neg(s, s.x(0, 4)), s.x(0, 4)), 'Neg Concat'],
    ['stacked', (s) => flat(s, s.b.node('Concat', [column(s, neg(s, s.x(2, 4))), column(s, s.x(2, 4))], { axis: -1 }), 2, 8), 'FusedConcat'],
    ['stacked, and not side by side', (s) => flat(s, s.b.node('Concat', [column(s, neg(s, s.x(2, 4))), column(s, s.x(2, 4))], { axis: -1 }), 4, 4), 'Neg Unsqueeze Unsqueeze Concat Reshape'],
    ['of three stacked', (s) => flat(s, s.b.node('Concat', [neg(s, s.x(2, 4)), s.x(2, 4), s.x(2, 4)].map((x) => column(s, x)), { axis: -1 }), 2, 12), 'Neg Unsqueeze Unsqueeze Unsqueeze Concat Reshape'],
    ['that read a table together', (s) => { const t = s.x(1, 4); return [0, 1].map(() => join(s, s.b.node('Mul', [s.x(2, 4), t], {}), s.x(2, 4))); }, 'FusedConcat'],
    ['of which one reads the other', (s) => { const t = s.x(1, 4); const y = join(s, s.b.node('Mul', [s.x(1, 4), t], {}), s.x(1, 4)); return join(s, s.b.node('Mul', [half(s, y, 2), t], {}), s.x(1, 4)); }, 'FusedConcat Slice FusedConcat'],
    ['of which one pair waits for the other', (s) => {
      const [t, u] = [s.x(1, 4), s.x(1, 4)];
      const rotated = (x: string, table: string): string => join(s, s.b.node('Mul', [x, table], {}), s.x(1, 4));
      const [a, d] = [rotated(s.x(1, 4), t), rotated(s.x(1, 4), u)];
      return [rotated(half(s, d, 2), t), rotated(half(s, a, 2), u)];
    }, 'FusedConcat Slice FusedConcat Slice FusedConcat'],
  ]);

  it('says what each part is', async () => {
    const graph = sketch((s) => { const x = s.x(2, 8); return s.b.node('Mul', [join(s, neg(s, half(s, x, 4)), half(s, x, 0)), x], {}, { outputs: ['y'] }); });
    const { graph: fused } = await applyPass(fuseConcat, graph);
    expect(printNode(fused, fused.nodes.at(-1)!)).toMatchInlineSnapshot(`"y: float32[2,8] = FusedConcat(Slice_0, Slice_2) {joined=[axis 1: [0:4] (neg(x0) * x1), [4:8] (x1 * x0)]} @Mul_4 <- Neg_1 Concat_3 Mul_4"`);
  });
});

describe('rotary embeddings', () => {
  it.each(FORMS)('%s: queries and keys are one kernel', async (form) => {
    const before = rotations(form, 2);
    const { graph } = await optimize(before, 'webgpu');
    expect(graph.nodes.map(({ op }) => op).filter((op) => op !== 'Slice' && !VIEWS.has(op))).toEqual(['FusedConcat']);
    await expectSame(before, graph);
  });
});
